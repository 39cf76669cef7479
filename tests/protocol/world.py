"""Two real Links, joined by streams that are cut at any point: the world that the schedules of the tests run in.

Everything goes through the real codec. A cut loses any tail of what is on the way, each direction by itself; agentk may
dial again before it knows; either end's process may be replaced. Each end's user sends a known pattern and checks every
byte that it gets.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from kastunnel.link import greeting
from kastunnel.link.credit import Budget
from kastunnel.link.events import Kind
from kastunnel.link.frames import AsAgent, Code, Feature, Head, Hop, Open, Reset, Uid
from kastunnel.link.limits import INITIAL_WINDOW, MAX_WINDOW
from kastunnel.link.link import Link, Side, Stream
from kastunnel.link.uids import UidMemory

PATTERN = random.Random(1).randbytes(4_000_000)


def pattern(uid: Uid, down: bool, start: int, stop: int) -> bytes:
    base = (uid.counter * 7919 + (1 if down else 0) * 104729) % 1_000_000
    return PATTERN[base + start : base + stop]


@dataclass
class Plan:
    """What one request is going to do."""

    up: int
    down: int
    fails_after: int | None = None  # agentk's source breaks after so many bytes of the answer


@dataclass
class User:
    """The user of one end of one request; a Handler that checks what it hears."""

    world: World
    uid: Uid
    down: bool  # what this user hears is the answer
    plan: Plan
    exchange: object = None
    heard: int = 0
    taken: int = 0
    offered: int = 0
    head: bool = False
    ended: bool = False
    stopped: bool = False
    reset: Reset | None = None
    closed: bool = False
    told_to_stop: bool = False
    asked_to_stop: bool = False

    @property
    def to_say(self) -> int:
        return self.plan.up if self.down else self.plan.down

    @property
    def to_hear(self) -> int:
        return self.plan.down if self.down else self.plan.up

    def on_head(self, head: Head) -> None:
        assert self.down and not self.head, "two heads"
        self.head = True
        self._check(head.body)
        if head.end:
            self.on_end(False)

    def on_data(self, data: bytes) -> None:
        assert not self.ended and self.reset is None, "bytes after the end"
        assert self.head or not self.down, "bytes before the head"
        assert not self.asked_to_stop or self.closed, "bytes after stop"
        self._check(data)

    def _check(self, data: bytes) -> None:
        assert bytes(data) == pattern(self.uid, self.down, self.heard, self.heard + len(data)), "wrong bytes"
        self.heard += len(data)

    def on_end(self, stopped: bool) -> None:
        assert not self.ended and self.reset is None, "two ends"
        self.ended = True
        self.stopped = stopped
        if stopped:
            assert self.asked_to_stop, "a stopped end that nobody asked for"
        elif not self.asked_to_stop:
            assert self.heard == self.to_hear, "a clean end that is not complete"

    def on_reset(self, reset: Reset) -> None:
        assert self.reset is None, "two resets"
        self.reset = reset
        if (
            reset.code is Code.UPSTREAM_BROKEN
            and self.plan.fails_after is not None
            and self.down
            and not self.asked_to_stop
        ):
            assert self.heard == self.plan.fails_after, "a broken source's last bytes are missing"
        self.closed = True

    def on_room(self) -> None:
        assert self.exchange.room > 0 or self.exchange.over or self.exchange.outgoing.end

    def on_stop(self, code: Code) -> None:
        self.told_to_stop = True


@dataclass
class Wire:
    """One gRPC stream: what is on the way up and down. Once cut, only what was on the way before may still arrive."""

    attach: int
    up: list[bytes] = field(default_factory=list)
    down: list[bytes] = field(default_factory=list)
    alive: bool = True


class World:
    CALM_STEPS = 200_000  # more than any schedule needs: beyond, it is stuck

    def __init__(
        self,
        rng: random.Random,
        *,
        requests: int = 8,
        cuts: int = 6,
        features: frozenset[int] = frozenset({Feature.RELEASE}),
    ):
        self.rng = rng
        self.now = 1000.0
        self.cuts = cuts
        self.budget = requests
        self.uids = UidMemory()
        self.features = features
        self.ran: dict[Uid, int] = {}
        self.plans: dict[Uid, Plan] = {}
        self.kas_users: dict[Uid, User] = {}
        self.agent_users: dict[Uid, User] = {}
        self.counter = 0
        self.budgets = [Budget(64 << 20), Budget(64 << 20), Budget(64 << 20), Budget(64 << 20)]
        self.fresh()

    def fresh(self) -> None:
        """Both processes new, or one of them: the link cannot be resumed."""
        self.kas = Link(
            Side.KAS, next_uid=self._uid, features=self.features, budgets=(self.budgets[0], self.budgets[1])
        )
        self.agent = Link(
            Side.AGENTK, uids=self.uids, features=self.features, budgets=(self.budgets[2], self.budgets[3])
        )
        self.attach = 0
        self.kas_attach = 0
        self.wires: list[Wire] = []
        self.kas_wire: Wire | None = None
        self.dial()

    def _uid(self) -> Uid:
        self.counter += 1
        return Uid(77, self.counter)

    # ---- streams

    def dial(self) -> None:
        self.attach += 1
        wire = Wire(self.attach)
        self.wires.append(wire)
        self.agent_wire = wire
        hello = greeting.Hello("pod", 1, 1, self.attach, resume_link=b"x" * 16)
        self.agent.begin_stream(self.attach, greeting.hello_frame(hello), self.now)

    def cut(self) -> None:
        for wire in self.wires:
            if wire.alive:
                wire.alive = False
                del wire.up[self.rng.randint(0, len(wire.up)) :]
                del wire.down[self.rng.randint(0, len(wire.down)) :]

    def arrive_up(self, wire: Wire) -> None:
        data = wire.up.pop(0)
        if wire is not self.kas_wire:
            try:
                hello = greeting.read_hello(data)
            except Exception:
                return  # the rest of a stream that was never accepted
            if hello.attach <= self.kas_attach:
                wire.alive = False
                return
            self.kas_attach = hello.attach
            self.kas_wire = wire
            welcome = greeting.Welcome(b"x" * 16, hello.attach, True, "kas", 1)
            self.kas.begin_stream(hello.attach, greeting.welcome_frame(welcome), self.now)
        self.dispatch(self.kas, self.kas.receive(data, self.now))

    def arrive_down(self, wire: Wire) -> None:
        data = wire.down.pop(0)
        if wire is self.agent_wire:
            self.dispatch(self.agent, self.agent.receive(data, self.now))

    def write(self, link: Link, wire: Wire | None, queue: str) -> None:
        if wire is None:
            return
        envelope = link.next_envelope(self.now)
        if envelope is not None and wire.alive:
            getattr(wire, queue).append(envelope)

    # ---- users

    def dispatch(self, link: Link, events: list) -> None:
        for event in events:
            request, kind, value = event
            if request is None:
                continue
            if kind is Kind.OPENED:
                self.opened(request, value)
                continue
            handler = request.handler
            if kind is Kind.HEAD:
                handler.on_head(value)
            elif kind is Kind.DATA:
                handler.on_data(value)
            elif kind is Kind.END:
                handler.on_end(value)
            elif kind is Kind.RESET:
                handler.on_reset(value)
            elif kind is Kind.ROOM:
                handler.on_room()
            elif kind is Kind.STOP:
                handler.on_stop(value)

    def opened(self, request, opened: Open) -> None:
        uid = opened.uid
        self.ran[uid] = self.ran.get(uid, 0) + 1
        assert self.ran[uid] == 1, "ran twice"
        user = User(self, uid, down=False, plan=self.plans[uid], exchange=request)
        request.handler = user
        self.agent_users[uid] = user
        user._check(opened.body)
        if opened.end:
            user.on_end(False)

    def open_one(self) -> None:
        rng = self.rng
        plan = Plan(rng.choice([0, 0, 300, 70_000, 500_000]), rng.choice([0, 5, 2_000, 90_000, 1_500_000]))
        if rng.random() < 0.1:
            plan.fails_after = rng.randint(0, plan.down)
        first = min(plan.up, rng.choice([0, 10, 60_000]))
        uid = Uid(77, self.counter + 1)
        self.plans[uid] = plan
        user = User(self, uid, down=True, plan=plan, offered=first)
        end = first == plan.up and rng.random() < 0.9
        request = self.kas.open(
            Open(AsAgent(), b"POST", b"/", [(b"a", b"b")], body=pattern(uid, False, 0, first), end=end), user
        )
        assert request is not None and request.uid == uid
        user.exchange = request
        user.closed = end
        self.kas_users[uid] = user

    def offer(self, user: User) -> None:
        """Say some more, as a source does: until there is no room, in reads of any size."""
        if user.closed or user.exchange.over:
            return
        if user.told_to_stop:
            user.closed = True
            return
        rng = self.rng
        exchange = user.exchange
        limit = user.to_say if user.plan.fails_after is None or user.down else user.plan.fails_after
        if not user.down and not user.head:
            body = b""
            if rng.random() < 0.5 and exchange.room > 0:
                size = min(limit, rng.choice([5, 2_000, 64 * 1024]))
                body = pattern(user.uid, True, 0, size)
            user.head = True
            user.offered = len(body)
            end = user.offered == user.to_say and rng.random() < 0.8 and user.plan.fails_after is None
            exchange.send_head(200, [(b"x", b"y")], body, end=end)
            user.closed = end
            return
        if user.offered < limit and exchange.room > 0:
            size = min(limit - user.offered, rng.choice([1, 1_000, 30_000, 100_000, 250_000]))
            exchange.send(pattern(user.uid, not user.down, user.offered, user.offered + size))
            user.offered += size
        if user.offered == limit:
            user.closed = True
            if user.plan.fails_after is not None and not user.down:
                exchange.reset(Code.UPSTREAM_BROKEN, "source broke", hop=Hop.API_SERVER, after_data=True)
                user.reset = Reset(Code.UPSTREAM_BROKEN)
            else:
                exchange.end()

    def take(self, user: User, all_of_it: bool = False) -> None:
        """Read some of what has come."""
        count = user.heard - user.taken
        if count > 0:
            count = count if all_of_it else self.rng.randint(1, count)
            user.taken += count
            user.exchange.consumed(count)

    # ---- schedules

    def step(self, calm: bool) -> None:
        rng = self.rng
        x = rng.random()
        if not calm:
            if x < 0.05 and self.budget:
                self.budget -= 1
                return self.open_one()
            if x < 0.06 and self.cuts:
                self.cuts -= 1
                return self.cut()
            if x < 0.07:
                return self.somebody_resets()
            if x < 0.075:
                return self.somebody_stops()
            if x < 0.08 and self.agent.stream is not Stream.READY and rng.random() < 0.3:
                return self.dial()  # impatient: dials again before an answer
            if x < 0.081:
                return self.restart()
            if x < 0.09:
                self.now += rng.choice([0.01, 0.06, 1.1])
                for link in (self.kas, self.agent):
                    link.tick(self.now)
        if not self.agent_wire.alive and not self.agent_wire.down:
            return self.dial()
        choice = rng.randrange(7)
        if choice <= 1:
            live = [wire for wire in self.wires if wire.up or wire.down]
            if live:
                wire = rng.choice(live)
                if wire.up and (not wire.down or rng.random() < 0.5):
                    self.arrive_up(wire)
                elif wire.down:
                    self.arrive_down(wire)
            self.now += 0.001
        elif choice == 2:
            self.write(self.kas, self.kas_wire, "down")
        elif choice == 3:
            self.write(self.agent, self.agent_wire, "up")
        else:
            users = [*self.kas_users.values(), *self.agent_users.values()]
            if users:
                user = rng.choice(users)
                self.offer(user)
                if rng.random() < 0.7 or calm:
                    self.take(user, all_of_it=calm)
        return None

    def somebody(self) -> User | None:
        users = [user for user in (*self.kas_users.values(), *self.agent_users.values()) if not user.exchange.over]
        return self.rng.choice(users) if users else None

    def somebody_resets(self) -> None:
        user = self.somebody()
        if user is not None and user.reset is None and not (user.ended and user.closed):
            user.exchange.reset(Code.CANCELLED, "changed my mind", hop=Hop.CALLER)
            user.reset = Reset(Code.CANCELLED)
            user.closed = True

    def somebody_stops(self) -> None:
        user = self.somebody()
        if user is not None and user.reset is None and not user.ended and (user.head or not user.down):
            user.asked_to_stop = True
            user.exchange.stop(Code.LIMIT)

    def restart(self) -> None:
        """One process is replaced: what was open has failed, at both ends."""
        for link, code in ((self.kas, Code.SUPERSEDED), (self.agent, Code.CANCELLED)):
            self.dispatch(link, link.close(code, "the other process is new", Hop.AGENTK))
            assert not link.requests
        for user in (*self.kas_users.values(), *self.agent_users.values()):
            assert user.exchange.over or (user.closed and user.ended) or user.reset or user.told_to_stop, user
            user.plan.fails_after = None
        self.settle()
        self.fresh()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step(calm=False)
            self.check_bounds()
        for count in range(self.CALM_STEPS):
            self.step(calm=True)
            if count % 20 == 0:
                self.now += 0.06
                if not self.kas.requests and not self.agent.requests and not self.kas.speaking.unopened():
                    break
        assert not self.kas.requests, f"stuck: {self.kas.requests} / {self.agent.requests}"
        assert not self.agent.requests, f"stuck: {self.agent.requests}"
        self.settle()

    def settle(self) -> None:
        """Nothing is left over, and every request has had exactly one outcome at each end."""
        for user in self.kas_users.values():
            assert user.reset is not None or (user.ended and user.head), f"no outcome: {user}"
        for user in self.agent_users.values():
            assert user.reset is not None or (user.ended and (user.closed or user.told_to_stop)), f"no outcome: {user}"
        for budget in self.budgets:
            assert budget.used == 0, "window growth was not given back"
        self.kas_users.clear()
        self.agent_users.clear()

    def check_bounds(self) -> None:
        for link in (self.kas, self.agent):
            for request in link.requests.values():
                out = request.outgoing
                assert out.acked <= out.said <= out.handed
                assert out.said - out.acked <= MAX_WINDOW
                assert request.incoming.received - request.incoming.consumed <= MAX_WINDOW
                assert out.said <= max(out.limit, out.said if out.reset else 0, INITIAL_WINDOW) or out.stopped
