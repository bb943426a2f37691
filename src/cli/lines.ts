/** Lines of a pipe between two processes of hutch. */

import { decodeBytes } from "../bytes.ts";

/** The lines of a stream, without their ends; what follows the last end is dropped: its writer was killed. */
export async function* readLines(stream: ReadableStream<Uint8Array> | undefined): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of stream ?? []) {
    const parts = (rest + decodeBytes(chunk)).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
}
