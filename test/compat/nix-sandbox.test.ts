/** One probe, run by real Nix's builder and by `nix-build-shell --exact` on what that build has left, line by line. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
} from "node:fs";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnvVars, valueOf } from "../../src/nix/env-vars.ts";
import { nixStore, onHost, type Store } from "../../src/nix/store-path.ts";
import { rawCall } from "../../src/libc/call.ts";
import { workshop, type Workshop } from "../nix/builds.ts";

setDefaultTimeout(60_000);
const BINARY = join(import.meta.dir, "../../dist/nix-build-shell");
const isRoot = process.getuid?.() === 0;
/** Who builds and enters: a user without rights, since then Nix's builder has no user of its own. */
const UID = isRoot ? 65534 : (process.getuid?.() ?? 0);

let shop: Workshop;
let store: Store;
let kept = "";
let real = "";
let fact = (_name: string): string => "";

beforeAll(() => {
  shop = workshop(isRoot ? UID : undefined);
  store = nixStore(`${shop.root}/store`);
  ({ kept } = shop.fail("probe.nix"));
  real = readFileSync(`${kept}/probe.txt`, "utf8");
  const variables = parseEnvVars(readFileSync(`${kept}/env-vars`, "utf8"));
  fact = (name) => valueOf(variables, name) ?? "";
});
afterAll(() => shop[Symbol.dispose]());

function enter(command: readonly string[], options: readonly string[] = ["--exact"], stdin = "") {
  const child = Bun.spawnSync([BINARY, "--store", store.root, ...options, kept, ...command], {
    stdin: Buffer.from(stdin),
    ...(isRoot ? { uid: UID, gid: UID } : {}),
    env: { PATH: "/usr/bin:/bin" },
    cwd: "/",
  });
  return { stdout: child.stdout.toString(), stderr: child.stderr.toString(), code: child.exitCode };
}

/** Lines that only one of two texts has: `- of the first`, `+ of the second`. */
function differences(first: string, second: string): readonly string[] {
  const [a, b] = [first.trim().split("\n"), second.trim().split("\n")];
  const rest = [...b];
  const gone = a.filter((line) => {
    const index = rest.indexOf(line);
    if (index >= 0) rest.splice(index, 1);
    return index < 0;
  });
  return [...gone.map((line) => `- ${line}`), ...rest.map((line) => `+ ${line}`)];
}

/** What is known to differ, with the reason; docs/nix-build-shell.md has the same list. */
const KNOWN: readonly (readonly [pattern: RegExp, why: string])[] = [
  [/^- mount: \/ (?!tmpfs)/, "Nix's root directory is on disk"],
  [/^\+ mount: \/ tmpfs$/, "the root is a tmpfs, so that it vanishes with the sandbox"],
  [/^\+ mount: \/dev tmpfs$/, "/dev is a tmpfs of its own"],
  [/^\+ mount: \/nix\/store\/[^ ]*-probe\.sh /, "plain files are mounted: a hard link would change the store"],
  [/^- try: \S+ touch \/nix\/store\/\S+: works$/, "Nix's store paths are writable mounts"],
  [/^\+ try: \S+ touch \/nix\/store\/\S+: refused$/, "the store is never written to"],
];

describe("the sandbox is Nix's", () => {
  test("but for what is known", () => {
    expect(real.trim().split("\n").length).toBeGreaterThan(200);
    const ours = enter([fact("SHELL"), fact("probe")]);
    expect(ours.stderr).toBe("");
    expect(ours.code).toBe(1);
    const found = differences(real, ours.stdout);
    expect(found.filter((line) => !KNOWN.some(([pattern]) => pattern.test(line)))).toEqual([]);
    expect(found.length).toBe(KNOWN.length);
  });

  test("without --exact much more differs: the test sees differences", () => {
    const { stdout } = enter([fact("SHELL"), fact("probe")], []);
    expect(differences(real, stdout).length).toBeGreaterThan(20);
  });

  test("--verify names the points, and what differs", () => {
    const { stdout, code } = enter([], ["--exact", "--verify"]);
    expect(code).toBe(0);
    expect(stdout).toContain("as in Nix  store ");
    expect(stdout).toMatch(/differs +root directory/);
    expect(stdout).toMatch(/\n\d+ points as in Nix, 4 differ\n$/);
    expect(enter([], ["--verify"]).stdout).toMatch(/differs +store +all of \/nix/);
  });
});

/** `--exact` on a machine whose nix says this of itself, with low limits of open files and a file of certificates. */
function as(said: string, options: readonly string[], command: readonly string[], entered = kept): string {
  const folder = mkdtempSync(join(shop.root, "nix-"));
  writeFileSync(join(folder, "nix"), `#!/bin/sh\necho '${said}'\n`, { mode: 0o755 });
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, "trusted.crt"), "trusted\n");
  const child = Bun.spawnSync(
    ["sh", "-c", 'ulimit -Sn 100; ulimit -Hn 300; "$@"; true', "sh"].concat(
      ...[BINARY, "--store", store.root, "--exact", ...options, entered, ...command],
    ),
    {
      ...(isRoot ? { uid: UID, gid: UID } : {}),
      env: { PATH: `${folder}:/usr/bin:/bin`, NIX_SSL_CERT_FILE: `${folder}/trusted.crt` },
      cwd: "/",
    },
  );
  expect(child.stderr.toString()).toBe("");
  return child.stdout.toString();
}

describe("rules of another version, by what nix says of itself", () => {
  const look = () => [
    fact("SHELL"),
    "-c",
    "$busybox stat -c %a /etc; ulimit -Sn; ulimit -Hn; $busybox grep Seccomp: /proc/self/status",
  ];

  test("2.8", () => expect(as("nix (Nix) 2.8.0", [], look())).toBe("755\n100\n300\nSeccomp:\t2\n"));
  test("2.35: /etc is closed, and the limit of open files is the highest", () =>
    expect(as("nix (Nix) 2.35.2", [], look())).toBe("555\n300\n300\nSeccomp:\t2\n"));

  test("the machine's own, also where HOME may not be looked into", () => {
    const child = Bun.spawnSync([BINARY, "--store", store.root, "--exact", "--verify", kept], {
      ...(isRoot ? { uid: UID, gid: UID } : {}),
      env: { PATH: "/usr/bin:/bin", HOME: "/root" },
      cwd: "/",
    });
    const own = /\(Nix\) ([\d.]+)/.exec(Bun.spawnSync(["nix-build", "--version"]).stdout.toString())?.[1];
    expect(child.stdout.toString()).toContain(`as Nix ${own}\n`);
  });

  test("--verify says whose rules these are", () => {
    expect(as("nix (Nix) 2.35.2", ["--verify"], [])).toMatch(
      /as in Nix +limits +no core files, as many open files as may be; all others the caller's\n/,
    );
    const lix = as("nix (Lix, like Nix) 2.93.3", ["--verify"], []);
    expect(lix).toMatch(/differs +version +as Nix 2\.35\.0, the newest that hutch knows: Lix 2\.93\.3 is here,/);
    expect(as("nix (Nix) 2.8.0", ["--verify"], [])).not.toContain("  version ");
  });

  test("since 2.16 a fixed-output derivation has the host's certificates", () => {
    const fixed = shop.fail("package.nix", ["--arg", "fixed", "true", "--argstr", "name", "certified"]).kept;
    const show = ["bash", "-c", "cd /etc/ssl/certs 2>/dev/null && cat * || echo none"];
    expect(as("nix (Nix) 2.15.3", [], show, fixed)).toBe("none\n");
    expect(as("nix (Nix) 2.16.0", [], show, fixed)).toBe("trusted\n");
  });
});

test("since 2.35 abstract sockets of the host are out of reach of a fixed-output derivation, where landlock can", () => {
  const fixed = shop.fail("package.nix", ["--arg", "fixed", "true", "--argstr", "name", "reaching"]).kept;
  const name = `hutch-nix-test-${process.pid}`;
  using _listener = Bun.listen({ unix: `\0${name}`, socket: { data() {} } });
  const reach = ["bash", "-c", `/nix/store/*-host-tools/calls ${name}`];
  const landlock = rawCall("landlock_create_ruleset", null, 0, 1);
  expect(as("nix (Nix) 2.31.3", [], reach, fixed)).toBe("0\n");
  expect(as("nix (Nix) 2.35.0", [], reach, fixed)).toBe(landlock >= 6 ? "1\n" : "0\n");
});

describe("the store of --exact", () => {
  test("the inputs alone, and the output can be made", () => {
    const names = (text: string) => text.trim().split("\n").toSorted();
    const script = "$busybox ls /nix /nix/store; $busybox mkdir $out; echo made > $out/x; $busybox cat $out/x";
    const { stdout } = enter([fact("SHELL"), "-c", script]);
    const lines = names(stdout).filter((line) => line !== "");
    expect(lines).toContain("made");
    expect(lines).toContain("store");
    expect(lines.some((line) => line.includes("/nix/var"))).toBe(false);
    expect(
      lines
        .filter((line) => /^[0-9a-z]{32}-/.test(line))
        .map((line) => line.slice(33))
        .toSorted(),
    ).toEqual(["bash-5", "host-tools", "probe.sh"]);
    expect(existsSync(onHost(store, fact("out")))).toBe(false);
  });

  test("what the build has left of its output is there, writable, and stays as it is in the store", () => {
    const place = onHost(store, fact("out"));
    const made = Bun.spawnSync(
      ["sh", "-c", 'mkdir "$1" && echo partial > "$1/file"', "sh", place],
      isRoot ? { uid: UID, gid: UID } : {},
    );
    expect(made.exitCode).toBe(0);
    const { stdout } = enter([
      fact("SHELL"),
      "-c",
      "$busybox cat $out/file; echo more >> $out/file; $busybox rm -r $out; [ -e $out ] || echo gone",
    ]);
    expect(stdout).toBe("partial\ngone\n");
    expect(readFileSync(`${place}/file`, "utf8")).toBe("partial\n");
    Bun.spawnSync(["rm", "-r", place]);
  });

  test.each([
    ["a file", 'echo partial > "$1"; chmod 640 "$1"; touch -d @1000 "$1"', "1000 640 partial\n", "-f"],
    ["a link", 'ln -s /build/env-vars "$1"', "", "-L"],
  ])("so is %s", (_, make, expected, is) => {
    const place = onHost(store, fact("out"));
    const made = Bun.spawnSync(["sh", "-c", make, "sh", place], isRoot ? { uid: UID, gid: UID } : {});
    expect(made.exitCode).toBe(0);
    const show =
      is === "-f" ? '$busybox stat -c "%Y %a" $out | $busybox tr "\\n" " "; $busybox cat $out; echo x >> $out;' : "";
    const { stdout } = enter([
      fact("SHELL"),
      "-c",
      `[ ${is} $out ] && echo kind; ${show} $busybox rm $out; [ -e $out ] || echo gone`,
    ]);
    expect(stdout).toBe(`kind\n${expected}gone\n`);
    expect(lstatSync(place).isSymbolicLink()).toBe(is === "-L");
    unlinkSync(place);
  });

  test.if(isRoot)("only as root: what may not be read of it is left out, and that is said", () => {
    const place = onHost(store, fact("out"));
    for (const make of [
      'mkdir -m 755 "$1"; echo s >"$1/secret"; chmod 600 "$1/secret"',
      'echo s >"$1"; chmod 600 "$1"',
    ]) {
      expect(Bun.spawnSync(["sh", "-c", make, "sh", place]).exitCode).toBe(0);
      const { stdout, stderr } = enter([fact("SHELL"), "-c", "[ -e $out/secret ] || [ -f $out ] || echo none"]);
      expect(stdout).toBe("none\n");
      expect(stderr).toMatch(
        /^nix-build-shell: \S+probe\S*(\/secret)? may not be read, and is left out; hint: [^\n]+\n$/,
      );
      Bun.spawnSync(["rm", "-r", place]);
    }
  });

  test("the interactive shell and its functions are there too", () => {
    const { stdout, code } = enter(
      [],
      ["--exact"],
      'cd /build; echo x > fresh; kept-diff | while read -r line; do echo "$line"; done; exit 6',
    );
    expect(stdout).toContain("added    fresh\n");
    expect(code).toBe(6);
  });

  test("nothing is left", () => {
    expect(readdirSync("/tmp").filter((name) => name.startsWith(`hutch-build-${process.pid}-`))).toEqual([]);
  });
});

test("a fixed-output derivation keeps the network, and gets its files", () => {
  const fixed = shop.fail("package.nix", ["--arg", "fixed", "true", "--argstr", "name", "fixed"]).kept;
  const child = Bun.spawnSync([BINARY, "--store", store.root, "--exact", fixed, "ls", "-A", "/etc"], {
    ...(isRoot ? { uid: UID, gid: UID } : {}),
    cwd: "/",
  });
  expect(child.stderr.toString()).toBe("");
  const seen = child.stdout.toString().trim().split("\n");
  for (const name of ["group", "hosts", "nsswitch.conf", "passwd"]) expect(seen).toContain(name);
  const network = ["bash", "-c", "exec 3</proc/self/net/dev; while read -r -u 3 name more; do echo $name; done"];
  const inside = Bun.spawnSync([BINARY, "--store", store.root, "--exact", fixed, ...network], {
    ...(isRoot ? { uid: UID, gid: UID } : {}),
    cwd: "/",
  });
  const outside = readFileSync("/proc/self/net/dev", "utf8").trim().split("\n");
  expect(inside.stdout.toString().trim().split("\n").length).toBe(outside.length);
});

describe.skipIf(!isRoot)("only as root: a build by a build user of its own", () => {
  /** As {@link KNOWN}, with what follows from the root directory's owner. */
  const KNOWN_TOO: typeof KNOWN = [
    ...KNOWN.filter(([, why]) => !why.startsWith("Nix's store paths") && !why.startsWith("the store is never")),
    [
      /^[-+] ls: .* (?:65534|1000) (?:65534|100) /,
      "directories and links of the sandbox are root's, which has no id inside; ours are the builder's",
    ],
    [/^- try: \S+ touch \/dev\/new: refused$/, "and so /dev is writable"],
    [/^\+ try: \S+ touch \/dev\/new: works$/, "and so /dev is writable"],
    [/^\+ mount: \/tmp tmpfs$/, "the root is read-only, so /tmp is a mount"],
  ];

  test("but for what is known", () => {
    using multi = workshop();
    const etc = `${multi.root}/etc`;
    // The machine has no build users: here it has one, in a mount namespace of nix-build's own.
    const script = `mkdir "$1" && cp /etc/passwd /etc/group "$1" && echo 'nixbld1:x:30001:30000::/:/bin/false' >> "$1/passwd" &&
      echo 'nixbld:x:30000:nixbld1' >> "$1/group" && mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group && shift && exec "$@"`;
    const wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", etc];
    const { kept: theirs } = multi.fail("probe.nix", [], ["--option", "build-users-group", "nixbld"], wrapper);
    expect(statSync(theirs).uid).toBe(30001);
    const variables = parseEnvVars(readFileSync(`${theirs}/env-vars`, "utf8"));
    const probe = [valueOf(variables, "SHELL") ?? "", valueOf(variables, "probe") ?? ""];
    const ours = Bun.spawnSync([BINARY, "--store", multi.store.root, "--exact", theirs, ...probe]);
    expect(ours.stderr.toString()).toBe("");
    const found = differences(readFileSync(`${theirs}/probe.txt`, "utf8"), ours.stdout.toString());
    expect(found.filter((line) => !KNOWN_TOO.some(([pattern]) => pattern.test(line)))).toEqual([]);
    expect(found.filter((line) => !line.includes(" ls: ")).length).toBeLessThanOrEqual(8);
  });
});

test.skipIf(!isRoot)("only as root, the ids are those of the kept directory's owner", () => {
  const child = Bun.spawnSync([
    BINARY,
    "--store",
    store.root,
    "--exact",
    kept,
    fact("SHELL"),
    "-c",
    "$busybox cat /proc/self/uid_map; $busybox id -u; echo x > /build/mine; $busybox ls -ln /build/mine",
  ]);
  expect(child.stdout.toString().replaceAll(/ +/g, " ")).toMatch(
    new RegExp(`^ 1000 ${UID} 1\\n1000\\n-rw-r--r-- 1 1000 100 2 `),
  );
  expect(child.exitCode).toBe(0);
});
