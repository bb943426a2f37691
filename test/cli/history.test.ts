/** hutch history, on the built binary: configs as they should be, and as they should not. */

import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { imageOf, layerOf, writeLayout } from "../image/helpers/layout.ts";
import { file, tar } from "../image/tar-maker.ts";
import { eachCaller, expectFailure, expectSuccess } from "./hutch.ts";

const layers = [layerOf(tar(file("a", "x".repeat(5000))), "none"), layerOf(tar(file("b")), "none")];
const sizes = layers.map(({ blob }) => blob.bytes.byteLength);
const digests = layers.map(({ blob }) => blob.digest);
const hourAgo = new Date(Date.now() - 3_600_000 - 5000).toISOString();

eachCaller("history", (bench) => {
  /** What hutch shows of an image with this history. */
  async function stored(history: unknown, of = layers) {
    const folder = bench.folder();
    const env = { HUTCH_STORE: `${folder}/store` };
    writeLayout(`${folder}/lay`, imageOf(of, {}, { history }));
    const pulled = await bench.hutch(["pull", `oci:${folder}/lay`], { env });
    expect(pulled.stderr).toBe("");
    const show = (...args: string[]) => bench.hutch(["history", `oci:${folder}/lay`, ...args], { env });
    const json = async () => JSON.parse((await show("--format", "json")).stdout) as unknown[];
    return { folder, env, show, json };
  }

  test("steps newest first, each with the layer that it made, past those that made none", async () => {
    const long = `RUN ${"word ".repeat(30)}`;
    const { show, json } = await stored([
      { created: hourAgo, created_by: long, comment: "first" },
      { created: hourAgo, created_by: "ENV A=b", empty_layer: true },
      { created: hourAgo, created_by: "COPY \u001b[31mred\u009b1m\nline /", empty_layer: false },
      { created_by: "CMD", empty_layer: true },
    ]);
    const table = await show();
    expectSuccess(table, /^CREATED +CREATED BY +SIZE +COMMENT\n/);
    const rows = table.stdout.split("\n").map((line) => line.split(/ {3,}/));
    expect(rows.slice(1, -1)).toEqual([
      ["", "CMD", "0 B"],
      ["1 hour ago", "COPY \\x1b[31mred\\x9b1m\\nline /", "2.05 kB"],
      ["1 hour ago", "ENV A=b", "0 B"],
      ["1 hour ago", "RUN word word word word word word word word…", "6.66 kB", "first"],
    ]);
    expect((await show("--no-trunc")).stdout).toContain(long.trim());
    const text = (await show("--format=json")).stdout;
    expect(text).toMatch(/^[\n -~…]*$/); // nothing that a terminal acts upon
    expect(await json()).toEqual([
      { created: null, createdBy: "CMD", comment: null, emptyLayer: true, size: 0, digest: null, diffId: null },
      {
        created: hourAgo,
        createdBy: "COPY \u001b[31mred\u009b1m\nline /",
        comment: null,
        emptyLayer: false,
        size: sizes[1],
        digest: digests[1],
        diffId: layers[1]?.diffId,
      },
      expect.objectContaining({ createdBy: "ENV A=b", size: 0 }),
      expect.objectContaining({ createdBy: long, comment: "first", size: sizes[0], digest: digests[0] }),
    ]);
  });

  test.each([
    ["fewer", [{ created_by: "one" }], 1],
    ["more", [{ created_by: "one" }, { created_by: "two" }, { created_by: "three" }], 3],
  ] as const)(
    "a config that tells of %s layers than there are: steps and layers stand apart",
    async (_, history, told) => {
      const { show, json } = await stored([...history, { created_by: "ENV", empty_layer: true }]);
      const table = await show();
      expect(table.stderr).toMatch(
        new RegExp(`^hutch history: warning: oci:\\S+: its config tells of ${told} layers, but it has 2: .*\n$`),
      );
      expect(table.code).toBe(0);
      const cells = table.stdout.split("\n").map((line) => line.trim().split(/ {3,}/));
      expect(cells.slice(1, -1)).toEqual([
        ["ENV", "0 B"],
        ...history.toReversed().map(({ created_by }) => [created_by, "?"]),
        ["<not told>", "2.05 kB"],
        ["<not told>", "6.66 kB"],
      ]);
      const rows = await json();
      expect(rows[1]).toMatchObject({ createdBy: history.at(-1)?.created_by, size: null, digest: null });
      expect(rows.at(-1)).toMatchObject({ createdBy: null, emptyLayer: null, size: sizes[0], digest: digests[0] });
    },
  );

  test("no history, and no layers either", async () => {
    for (const none of [undefined, null, []]) {
      const { show } = await stored(none);
      expectSuccess(
        await show(),
        /^CREATED +CREATED BY +SIZE +COMMENT\n +<not told> +2.05 kB\n +<not told> +6.66 kB\n$/,
      );
    }
    const { show, json } = await stored([], []);
    expectSuccess(await show(), "CREATED   CREATED BY   SIZE   COMMENT\n");
    expect(await json()).toEqual([]);
  });

  test("bad words, no image, a damaged one", async () => {
    const { folder, env, show } = await stored([]);
    const hutch = (...args: string[]) => bench.hutch(["history", ...args], { env });
    expectFailure(await hutch(), 125, "IMAGE is missing");
    expectFailure(await show("more"), 125, "unexpected more");
    expectFailure(await show("--format", "xml"), 125, "--format must be text or json");
    expectFailure(await hutch("nothing"), 125, 'no image "nothing" in the store');
    const config = imageOf(layers, {}, { history: [] }).config.digest.slice(7);
    rmSync(`${folder}/store/images/blobs/sha256/${config}`);
    expectFailure(await show(), 125, "the store lacks sha256:");
  });
});
