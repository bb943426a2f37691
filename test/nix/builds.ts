/**
 * Real failing builds, by the nix-build of this machine, offline, in a chroot store of the test's own: /nix is not
 * touched. Root builds them as itself (no build users), any other user too.
 */

import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, realpathSync } from "node:fs";
import { tmpdir } from "node:os";
import { parseKeptOutput } from "../../src/nix/kept-output.ts";
import { removeTree } from "../../src/sessions/remove-tree.ts";
import { nixStore, type Store } from "../../src/nix/store-path.ts";

const FIXTURE = `${import.meta.dir}/fixture`;
const PROGRAMS = ["bash", "cat", "cp", "mkdir", "chmod", "env", "id", "ls", "true", "false"];

/** The program's path. @throws Error that says what to install */
export function needProgram(name: string, debianPackage: string): string {
  const path = Bun.which(name, { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` });
  if (path === null) throw new Error(`these tests need ${name}: apt-get install ${debianPackage}`);
  return path;
}

/** Run a command to its end; throws with its output when it fails and `expect` is not given. */
export function run(
  command: readonly string[],
  options: { uid?: number; env?: Record<string, string>; cwd?: string } = {},
) {
  const { uid, ...rest } = options;
  const child = Bun.spawnSync([...command], {
    ...rest,
    ...(uid === undefined ? {} : { uid, gid: uid }),
    stdin: "ignore",
  });
  return { code: child.exitCode, stdout: child.stdout.toString(), stderr: child.stderr.toString() };
}

/** A place with a chroot store and a directory for kept builds, removed by `[Symbol.dispose]`. */
export interface Workshop extends Disposable {
  readonly root: string;
  readonly store: Store;
  /** Build a file of the fixture that fails; gives the kept directory and what nix-build said. */
  fail(
    file: string,
    args?: readonly string[],
    options?: readonly string[],
    /** A command that runs nix-build, whose words come behind. */
    wrapper?: readonly string[],
  ): { readonly kept: string; readonly stderr: string };
}

/** Make a workshop for builds by `uid` (needs root when it is another's). */
export function workshop(uid?: number): Workshop {
  needProgram("nix-build", "nix-bin");
  const root = realpathSync(mkdtempSync(`${tmpdir()}/hutch-nix-test-`));
  const raw = `${root}/raw`;
  for (const directory of ["", "/libexec", "/lib"]) mkdirSync(`${raw}${directory}`);
  copyFileSync(needProgram("busybox", "busybox-static"), `${raw}/busybox`);
  for (const name of PROGRAMS) copyWithLibraries(needProgram(name, "coreutils"), name, raw);
  const calls = [needProgram("gcc", "gcc"), "-static", "-O1", "-Wall", "-Werror", "-o", `${raw}/calls`];
  const compiled = run([...calls, `${FIXTURE}/calls.c`]);
  if (compiled.code !== 0) throw new Error(`gcc calls.c: ${compiled.stderr}`);
  for (const directory of ["/kept", "/home"]) mkdirSync(`${root}${directory}`);
  if (uid !== undefined) for (const path of [root, `${root}/kept`, `${root}/home`]) chownSync(path, uid, uid);
  chmodSync(root, 0o755);
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: `${root}/home`,
    TMPDIR: `${root}/kept`,
    SAMPLE_IMPURE: "from outside",
  };
  return {
    root,
    store: nixStore(`${root}/store`),
    fail: (file, args = [], options = [], wrapper = []) => {
      const command = [
        ...wrapper,
        "nix-build",
        "--store",
        `${root}/store`,
        "--keep-failed",
        "--no-out-link",
        "--builders",
        "",
      ];
      const settings = { substituters: "", sandbox: "true", "sandbox-fallback": "false", "build-users-group": "" };
      for (const [name, value] of Object.entries(settings)) command.push("--option", name, value);
      command.push(...options, `${FIXTURE}/${file}`, "--arg", "raw", raw, ...args);
      const { code, stderr } = run(command, { env, ...(uid === undefined ? {} : { uid }) });
      const kept = parseKeptOutput(stderr)[0]?.directory;
      if (code === 0 || kept === undefined)
        throw new Error(`expected a failing build that is kept, got ${code}:\n${stderr}`);
      return { kept, stderr };
    },
    [Symbol.dispose]: () => removeTree(root),
  };
}

function copyWithLibraries(program: string, name: string, raw: string): void {
  copyFileSync(program, `${raw}/libexec/${name}`);
  const { stdout } = run([needProgram("ldd", "libc-bin"), program]);
  for (const [, library = ""] of stdout.matchAll(/(\/[^ ]+)\s+\(0x/g)) {
    const base = library.split("/").at(-1) ?? "";
    const target = base.startsWith("ld-") ? "loader" : base;
    if (!existsSync(`${raw}/lib/${target}`)) copyFileSync(library, `${raw}/lib/${target}`);
  }
}
