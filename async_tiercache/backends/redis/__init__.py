"""L2 in Redis or Valkey: `RedisRemote` implements `abc.Remote`."""

from async_tiercache.backends.redis.remote import RedisRemote

__all__ = ["RedisRemote"]
