import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { liveSource } from "../../../heatmap_pipeline/render/static/source.js";

const GONE = "The server does not answer. It may be restarting, or the network is down.";

/** Has the server answer a question with a body that ends in an error, and gives what the page is told. */
async function toldOf(error) {
  mock.method(globalThis, "fetch", async () => ({ ok: true, json: () => Promise.reject(error) }));
  const told = await liveSource()
    .symbols()
    .catch((failure) => failure);
  mock.restoreAll();
  return told;
}

test("an answer that is cut is told as one that does not come", async () => {
  for (const error of [new TypeError("network error"), new DOMException("signal timed out", "TimeoutError")]) {
    assert.equal((await toldOf(error)).message, GONE);
  }
});

test("what is given up, and what is no answer of the endpoint, stays what it is", async () => {
  for (const error of [new DOMException("", "AbortError"), new SyntaxError("Unexpected token")]) {
    assert.equal(await toldOf(error), error);
  }
});
