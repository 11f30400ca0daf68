"""The breaker: one failure opens it, one caller at a time probes."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from async_tiercache.policies.breaker import Breaker


def test_a_new_breaker_is_closed() -> None:
    """Nothing has failed yet, so everyone may ask."""
    breaker = Breaker()

    assert breaker.state == "closed"
    assert breaker.allow(0.0)


def test_a_failure_opens_it_for_one_period() -> None:
    """Until `period` has passed since the failure nobody asks."""
    breaker = Breaker(period=0.5)

    assert breaker.failure(10.0)
    assert not breaker.allow(10.49)
    assert breaker.state == "open"


def test_after_the_period_exactly_one_caller_probes() -> None:
    """The first caller after the period probes, the next ones wait for its report."""
    breaker = Breaker(period=0.5)
    breaker.failure(10.0)

    assert [breaker.allow(10.5), breaker.allow(10.5), breaker.allow(10.9)] == [True, False, False]
    assert breaker.state == "half-open"


def test_a_probe_that_never_reports_holds_others_back_for_one_period() -> None:
    """A probe whose caller vanished does not lock the breaker."""
    breaker = Breaker(period=0.5)
    breaker.failure(10.0)
    breaker.allow(10.5)

    assert breaker.allow(11.0)


def test_a_successful_probe_closes_it_and_says_so_once() -> None:
    """`success` reports the return of the tier, not every success."""
    breaker = Breaker(period=0.5)
    breaker.failure(10.0)
    breaker.allow(10.5)

    assert [breaker.success(), breaker.success()] == [True, False]
    assert breaker.allow(10.5)


def test_a_failed_probe_opens_it_again_without_news() -> None:
    """The tier was down and still is: no change is reported, and a new period begins."""
    breaker = Breaker(period=0.5)
    breaker.failure(10.0)
    breaker.allow(10.5)

    assert not breaker.failure(10.6)
    assert [breaker.allow(11.0), breaker.allow(11.1)] == [False, True]


def test_a_late_failure_prolongs_the_wait() -> None:
    """The period counts from the last failure, not from the first."""
    breaker = Breaker(period=0.5)
    breaker.failure(10.0)
    breaker.failure(10.4)

    assert not breaker.allow(10.8)


def test_the_repr_names_the_state_only() -> None:
    """`repr` is the debugging view."""
    assert repr(Breaker()) == "<Breaker closed>"


class BreakerMachine(RuleBasedStateMachine):
    """Any order of calls against what the rules say, told from the log of reports and probes."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(period=1.0)
        self.now = 0.0
        self.up = True
        self.last_try = 0.0  # the last failure or probe

    @rule(seconds=st.sampled_from([0.0, 0.25, 0.75, 1.0, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        expected = self.up or self.now >= self.last_try + 1.0

        assert self.breaker.allow(self.now) == expected

        if expected:
            self.last_try = self.now

    @rule()
    def fail(self) -> None:
        assert self.breaker.failure(self.now) == self.up

        self.up = False
        self.last_try = self.now

    @rule()
    def succeed(self) -> None:
        assert self.breaker.success() != self.up

        self.up = True

    @precondition(lambda self: not self.up)
    @rule()
    def recover(self) -> None:
        """Whatever came before, one period later someone may ask."""
        self.now += 1.0

        assert self.breaker.allow(self.now)

        self.last_try = self.now

    @invariant()
    def closed_means_up(self) -> None:
        assert (self.breaker.state == "closed") == self.up


TestBreakerMachine = BreakerMachine.TestCase
