/** JSON as people must see it: whole, and with nothing in it that hides. */

import { visible } from "./words.js";

/** Whether a number is what was sent: beyond 2^53 browsers round. */
const exactNumber = (value) => Number.isFinite(value)
  && (!Number.isInteger(value) || Number.isSafeInteger(value));

/** A value on lines of its own, nothing cut: `{text, exact}`; not exact: a number was rounded. */
export function pretty(value) {
  let exact = true;
  const lines = (each, indent) => {
    if (typeof each === "string") return visible(JSON.stringify(each));
    if (typeof each === "number") exact &&= exactNumber(each);
    if (each === null || typeof each !== "object") return JSON.stringify(each);
    const list = Array.isArray(each);
    const deeper = indent + "  ";
    const parts = Object.entries(each).map(([key, inner]) =>
      deeper + (list ? "" : `${visible(JSON.stringify(key))}: `) + lines(inner, deeper));
    const [open, close] = list ? "[]" : "{}";
    return parts.length ? `${open}\n${parts.join(",\n")}\n${indent}${close}` : open + close;
  };
  return { text: lines(value, ""), exact };
}

/** Read what a person typed: `{value}` or `{problem}`. */
export function parsed(text) {
  let exact = true;
  try {
    const value = JSON.parse(text, (_, each) => {
      if (typeof each === "number") exact &&= exactNumber(each);
      return each;
    });
    return exact ? { value } : { problem: "has a number that a browser rounds; use the CLI" };
  } catch (error) {
    return { problem: `is not JSON (${error.message})` };
  }
}
