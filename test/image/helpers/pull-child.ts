/** A hutch of its own: pulls NAME into STORE and prints each event's kind on a line. Killed by the tests. */

import { pull } from "../../../src/image/pull.ts";
import { openStore } from "../../../src/image/store.ts";

const [, , store = "", name = "", policy = "missing"] = process.argv;
const { image, changed } = await pull(name, {
  store: openStore(store),
  policy: policy as "missing",
  env: { HOME: "/nonexistent", CONTAINERS_REGISTRIES_CONF: process.env["CONTAINERS_REGISTRIES_CONF"] ?? "/dev/null" },
  uid: process.getuid?.() ?? 0,
  onEvent: ({ kind }) => void Bun.write(Bun.stdout, `${kind}\n`),
});
await Bun.write(Bun.stdout, `${changed ? "pulled" : "had"} ${image.record.manifest.digest}\n`);
