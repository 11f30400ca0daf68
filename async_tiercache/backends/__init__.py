"""Where values are kept: this process's memory, Redis or Valkey, or nowhere."""
