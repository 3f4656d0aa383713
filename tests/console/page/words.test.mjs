/** Words and numbers of the page, as the experience spells them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as words from "./words.js";

const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const each = (act, cases) => {
  for (const [given, expected] of cases) assert.equal(act(given), expected);
};

test("how long something is", () => {
  each(words.span, [[4 * SECOND, "4s"], [2 * MINUTE, "2m"], [3 * HOUR, "3h"], [31 * DAY, "31d"], [-5, "0s"]]);
  each(words.duration, [[14, "14ms"], [1200, "1.2s"], [1000, "1s"], [30 * SECOND, "30s"],
    [2 * MINUTE + 4 * SECOND, "2m 4s"], [3 * HOUR + 5 * MINUTE, "3h 5m"], [null, "-"]]);
  each(words.countdown, [[8 * MINUTE + 12 * SECOND, "8:12"], [HOUR + 2 * MINUTE, "1:02:00"], [-5, "0:00"]]);
});

test("sizes and numbers", () => {
  each(words.bytes, [[100, "100 B"], [71 * 1024, "71 KiB"], [3.1 * 1024 ** 2, "3.1 MiB"]]);
  each(words.thousands, [[999, "999"], [10000, "10\u2009000"], [1234567, "1\u2009234\u2009567"]]);
  assert.equal(words.counted(1, "device"), "1 device");
  assert.equal(words.counted(2, "wrong try", "wrong tries"), "2 wrong tries");
});

test("ids and fingerprints are short, and whole where they are not ids", () => {
  assert.equal(words.shortId("01M80NKQCNX4K7QM2ZT9B3FVHD"), "X4K7QM");
  assert.equal(words.shortId("pi"), "pi");
  assert.equal(words.fingerprint("7d4c19e203abf58e" + "0".repeat(48)), "7d4c 19e2 03ab f58e");
});

test("a state is a word, and never colour alone", () => {
  assert.deepEqual(words.stateWord("awaiting_local_mediation").word, "waiting for a person at the device");
  assert.equal(words.stateWord("outcome_unknown").tone, "unknown");
  assert.equal(words.stateWord("queued", "approval").word, "waiting for approval");
  assert.equal(words.stateWord("something_new").word, "something new");
});

test("what does not print, or turns the reading direction, is spelled out", () => {
  assert.equal(words.visible("a\u202eb\u0007c\u00a0d\u{e0041}e\u00ad"), "a\\u202eb\\u0007c\\u00a0d\\udb40\\udc41e\\u00ad");
  assert.equal(words.visible("Žluťoučký kůň 10 000 😀"), "Žluťoučký kůň 10 000 😀");
});
