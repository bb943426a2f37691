import { expect, test } from "bun:test";
import { programsClosure } from "../../src/rootfs/host-programs.ts";
import { ProgramError } from "../../src/rootfs/program.ts";
import { refuseShim } from "../../src/rootfs/shim.ts";
import { tableHost } from "./fixtures.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const SHIMS: Readonly<Record<string, string>> = {
  pyenv: `#!/usr/bin/env bash\nset -e\nprogram="\${0##*/}"\nexport PYENV_ROOT="/home/me/.pyenv"\nexec "/home/me/.pyenv/libexec/pyenv" exec "$program" "$@"\n`,
  rbenv: `#!/usr/bin/env bash\nexec "/usr/libexec/rbenv" exec "$program" "$@"\n`,
  asdf: `#!/usr/bin/env bash\n# asdf-plugin: python 3.12.1\nexec /opt/asdf/bin/asdf exec "python" "$@" # asdf_allow: ' asdf '\n`,
};

test.each(Object.entries(SHIMS))("a shim of %s is told", (manager, text) => {
  const path = `/home/me/.${manager}/shims/python3`;
  const host = tableHost({ [path]: bytes(text) });
  expect(() => refuseShim(host, path, [])).toThrow(
    expect.objectContaining({
      message: `${path}: a shim of ${manager}, which starts another program`,
      hint: `add that one: "$(${manager} which python3)", or /usr/bin/python3`,
    }),
  );
  expect(() => refuseShim(host, path, ["/home/me/other"])).toThrow(ProgramError);
  // Whoever brings the manager along knows what they do.
  refuseShim(host, path, [`/home/me/.${manager}`]);
});

test("other programs are not, wherever they are", () => {
  const plain = bytes('#!/bin/sh\nexec python3 "$@"\n');
  const host = tableHost({ "/a/shims/x": plain, "/a/bin/pyenv-x": bytes(SHIMS["pyenv"] ?? "") });
  refuseShim(host, "/a/shims/x", []);
  refuseShim(host, "/a/bin/pyenv-x", []);
});

test("--add of one is refused in the user's words", () => {
  const host = tableHost({ "/m/shims/python3": bytes(SHIMS["pyenv"] ?? "") });
  const wanted = { programs: [{ value: "python3", words: "--add python3" }], paths: [], env: [], nsswitch: "" };
  expect(() => programsClosure({ ...wanted, search: { path: "/m/shims", cwd: "/" } }, host)).toThrow(
    expect.objectContaining({ from: "--add python3", message: expect.stringContaining("a shim of pyenv") }),
  );
});
