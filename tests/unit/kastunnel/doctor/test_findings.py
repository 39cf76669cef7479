from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from kastunnel.doctor.clocks import skew
from kastunnel.doctor.findings import Check, Finding, State, broken, examine, exit_code, ok, skipped, warning
from kastunnel.doctor.report import MAX_CHARACTERS, as_data, lines, report
from kastunnel.doctor.tunnel import Told, reachability, verdict
from kastunnel.link.frames import Code
from kastunnel.link.greeting import Refused

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def finds(finding: Finding, seen: list[str] | None = None) -> Callable[[], Awaitable[Finding]]:
    async def look() -> Finding:
        if seen is not None:
            seen.append(finding.said)
        return finding

    return look


async def test_what_lies_behind_a_broken_hop_is_not_looked_at_and_the_first_cause_is_named() -> None:
    seen: list[str] = []
    checks = (
        Check("DNS", finds(broken("unknown", "correct it"), seen)),
        Check("TCP", finds(ok("tcp"), seen), ("DNS",)),
        Check("TLS", finds(ok("tls"), seen), ("TCP",)),
        Check("other", finds(ok("other"), seen)),
    )
    found = {name: finding async for name, finding in examine(checks)}
    assert seen == ["unknown", "other"]
    assert found["TLS"] == skipped("not looked at: DNS is broken")
    assert found["other"].state is State.OK


async def test_warnings_and_hops_without_anything_to_look_at_do_not_stop_the_examination() -> None:
    checks = (
        Check("a", finds(warning("soon", "renew"))),
        Check("b", finds(skipped("an address")), ("a",)),
        Check("c", finds(ok("fine")), ("b",)),
    )
    assert [finding.state async for _, finding in examine(checks)] == ["warning", "skipped", "ok"]


@pytest.mark.looptime
async def test_a_check_that_hangs_is_broken() -> None:
    async def never() -> Finding:
        await asyncio.sleep(10_000)
        raise AssertionError

    found = [finding async for _, finding in examine((Check("a", never),))]
    assert (found[0].state, found[0].said) == (State.BROKEN, "no answer within 30 s")


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([], 0),
        ([ok(""), skipped("")], 0),
        ([ok(""), warning("", "x")], 3),
        ([warning("", "x"), broken("", "x")], 1),
    ],
)
def test_the_exit_code_says_the_worst(found: list[Finding], code: int) -> None:
    assert exit_code(found) == code


def test_a_line_is_aligned_and_the_remedy_stands_below_it() -> None:
    assert lines("DNS", broken("x is unknown", "correct it"), 8) == [
        "DNS       broken   x is unknown",
        "                   → correct it",
    ]


def test_what_others_said_can_neither_flood_nor_move_the_terminal() -> None:
    said = "\n".join(lines("TLS", ok("a\x1b[2Jb\r\nc " + "x " * 5000), 3))
    assert "\x1b" not in said
    assert "a?[2Jb c" in said
    assert len(said) < 2 * MAX_CHARACTERS


async def test_text_and_data_say_the_same() -> None:
    checks = (Check("a", finds(ok("fine"))), Check("bbb", finds(warning("soon", "renew"))))
    said: list[str] = []
    assert await report(checks, said.append) == 3
    assert said == ["a    ok       fine", "bbb  warning  soon", "              → renew", "Warnings: 1."]
    assert await as_data(checks) == (
        [
            {"check": "a", "state": "ok", "said": "fine"},
            {"check": "bbb", "state": "warning", "said": "soon", "remedy": "renew"},
        ],
        3,
    )


@pytest.mark.parametrize(
    ("apart_s", "state"),
    [
        (0, "ok"),
        (29, "ok"),
        (-29, "ok"),
        (31, "warning"),
        (-31, "warning"),
        (299, "warning"),
        (301, "broken"),
        (-9e6, "broken"),
    ],
)
def test_a_clock_is_notable_from_30_s_and_broken_from_five_minutes(apart_s: float, state: str) -> None:
    date = format_datetime(NOW - timedelta(seconds=apart_s), usegmt=True)
    found = skew("kas", date, NOW)
    assert found.state == state
    if state != "ok":
        assert f"{abs(apart_s):.0f} s {'ahead of' if apart_s > 0 else 'behind'} kas" in found.said


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Sun, 99 Foo 2026 00:00:00 GMT", "Sun, 01 Mar 2026 12:00:00 -0000", "\x00" * 50]
)
def test_a_time_that_cannot_be_read_is_no_finding_about_the_clock(date: str) -> None:
    assert skew("kas", date, NOW).state is State.SKIPPED


@pytest.mark.parametrize(
    ("told", "state", "remedy"),
    [
        (Told(Refused(Code.UNSUPPORTED, "x")), "ok", ""),
        (Told(None), "broken", "buffering"),
        (Told(None, "unavailable: Received http2 header with status: 502"), "broken", "cannot reach kas"),
        (Told(None, "unimplemented: Received http2 header with status: 404"), "broken", "no agent door"),
        (Told(None, "unavailable: connection reset"), "broken", "is this the port of agent_api"),
    ],
)
def test_what_stands_in_front_of_kas_is_told_by_how_grpc_fails(told: Told, state: str, remedy: str) -> None:
    found = reachability(told)
    assert found.state == state
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("code", "state"), [(Code.UNSUPPORTED, "ok"), (Code.UNAUTHENTICATED, "broken"), (Code.LIMIT, "warning")]
)
def test_what_kas_refuses_says_what_it_thinks_of_the_token(code: Code, state: str) -> None:
    assert verdict(Told(Refused(code, "for a reason"))).state == state
