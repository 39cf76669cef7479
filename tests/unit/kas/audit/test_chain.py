"""Nobody who can write the log can change it unseen: whatever happens to the lines, verify finds it."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kas.audit.chain import Chain, Head, beginning, follows, is_signed, mac_of, sign
from kas.audit.verifying import SignedHead, records, verify

KEY = b"k" * 64
INSTANCE = "0123abcd"


def written(count: int, key: bytes = KEY) -> tuple[list[bytes], list[Head]]:
    chain = Chain(key, INSTANCE)
    lines, heads = [], [chain.head]
    for number in range(count):
        lines.append(chain.lines([f'"event":"request","n":{number}']))
        heads.append(chain.head)
    return lines, heads


def findings(
    folder, lines: list[bytes], *heads: Head, first: int = 1, key: bytes = KEY, signing: bytes = KEY
) -> list[str]:
    for old in folder.glob("*.jsonl"):
        old.unlink()
    (folder / f"{INSTANCE}-{first:012d}.jsonl").write_bytes(b"".join(lines))
    signed = [SignedHead(INSTANCE, head, sign(signing, INSTANCE, head)) for head in heads]
    return [one.message for one in verify(folder, key, signed).findings]


def test_every_line_is_json_with_its_number_and_mac():
    lines, heads = written(3)
    said = [json.loads(line) for line in lines]
    assert [one["seq"] for one in said] == [1, 2, 3]
    assert [one["mac"] for one in said] == [head.mac for head in heads[1:]] == [mac_of(line) for line in lines]
    assert said[1]["n"] == 1


def test_a_chain_goes_on_where_it_stopped():
    lines, heads = written(3)
    again = Chain(KEY, INSTANCE, heads[2])
    assert again.lines(['"event":"request","n":2']) == lines[2]


def test_a_whole_log_has_no_finding(tmp_path):
    lines, heads = written(20)
    assert findings(tmp_path, lines, heads[5], heads[20]) == []
    assert findings(tmp_path, lines) == []
    assert len(list(records(tmp_path))) == 20


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: [*lines[:4], lines[4].replace(b'"n":4', b'"n":5'), *lines[5:]], "record 5 was changed"),
        (lambda lines: lines[:4] + lines[5:], "records 5 to 5 are missing"),
        (lambda lines: lines[:3] + lines[6:], "records 4 to 6 are missing"),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], "records 5 to 5 are missing, or in another place"),
        (lambda lines: [*lines[:5], lines[4], *lines[5:]], "record 5 is in the wrong place, or there twice"),
        (lambda lines: [*lines[:-1], lines[-1][:-10]], "the end is cut off: 1 records are missing after record 9"),
        (lambda lines: [*lines[:4], b"x" * 70_000 + b"\n", *lines[4:]], "record 5 is torn off"),
        (lambda lines: [*lines[:4], b"{}\n", *lines[5:]], "this is no record"),
        (lambda lines: [*lines[:4], b"\n", *lines[4:]], "this is no record"),
        (lambda lines: lines[:7], "the end is cut off: 3 records are missing after record 7"),
        (lambda lines: [], "the end is cut off: 10 records are missing after record 0"),
        (lambda lines: written(10, b"x" * 64)[0], "record 1 was changed, or the key is another one"),
    ],
)
def test_what_was_done_to_the_log_is_said(tmp_path, spoil, said):
    lines, heads = written(10)
    (found,) = findings(tmp_path, spoil(lines), heads[10])
    assert said in found


def test_a_record_that_is_being_written_is_no_finding(tmp_path):
    lines, heads = written(10)
    assert findings(tmp_path, [*lines[:-1], lines[-1][:-10]], heads[9]) == []


def test_a_log_that_is_gone_altogether_is_missed(tmp_path):
    _, heads = written(10)
    (found,) = verify(tmp_path, KEY, [SignedHead(INSTANCE, heads[10], sign(KEY, INSTANCE, heads[10]))]).findings
    assert "10 records are missing" in found.message


def test_a_head_that_kas_did_not_make_is_told(tmp_path):
    lines, heads = written(10)
    (found,) = findings(tmp_path, lines, heads[10], signing=b"other")
    assert "was not made with this key" in found


def test_a_log_that_was_written_anew_with_a_stolen_key_differs_from_the_heads(tmp_path):
    _, heads = written(10)
    forged = Chain(KEY, INSTANCE)
    lines = [forged.lines(['"event":"nothing"']) for _ in range(10)]
    (found,) = findings(tmp_path, lines, heads[4], heads[10])
    assert "record 4 is another one than the head in the database says" in found


def test_removed_files_are_vouched_for_by_the_log_itself(tmp_path):
    chain = Chain(KEY, INSTANCE)
    old = [chain.lines(['"event":"request"']) for _ in range(3)]
    gone = chain.head
    kept = [chain.lines(['"event":"request"']) for _ in range(2)]
    kept.append(chain.lines([f'"time":"t","event":"audit_removed","first":1,"last":3,"last_mac":"{gone.mac}"']))
    assert findings(tmp_path, kept, chain.head, first=4) == []
    (found,) = findings(tmp_path, kept[:2], first=4)
    assert "the records before 4 are missing" in found
    assert old


LOG, HEADS = written(12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_of_any_byte_or_line_is_found(tmp_path, data):
    lines = list(LOG)
    at = data.draw(st.integers(0, len(lines) - 1))
    kind = data.draw(st.sampled_from(["byte", "drop", "swap", "double", "cut", "insert"]))
    if kind == "byte":
        line = bytearray(lines[at])
        where = data.draw(st.integers(0, len(line) - 1))
        line[where] ^= data.draw(st.integers(1, 255))
        lines[at] = bytes(line)
    elif kind == "drop":
        del lines[at]
    elif kind == "swap":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda index: index != at))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "double":
        lines.insert(at, lines[at])
    elif kind == "cut":
        lines = lines[:at]
    else:
        lines.insert(at, data.draw(st.binary(max_size=40)) + b"\n")
    assert findings(tmp_path, lines, HEADS[-1])


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_mac_depends_on_key_place_and_words(one, other):
    before = beginning(KEY, INSTANCE)
    line = Chain(KEY, INSTANCE).lines([f'"event":{json.dumps(one)}'])
    assert follows(KEY, before.mac, line)
    assert not follows(b"other", before.mac, line)
    assert not follows(KEY, "other", line)
    if one != other:
        assert Chain(KEY, INSTANCE).lines([f'"event":{json.dumps(other)}']) != line


def test_a_signature_is_of_one_head_of_one_chain():
    head = HEADS[5]
    signature = sign(KEY, INSTANCE, head)
    assert is_signed(KEY, INSTANCE, head, signature)
    assert not is_signed(KEY, "ffffffff", head, signature)
    assert not is_signed(KEY, INSTANCE, head._replace(seq=6), signature)
    assert not is_signed(b"other", INSTANCE, head, signature)
