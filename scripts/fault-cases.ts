/** The command lines of faults.ts, each with folders of its own. */

import {
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withRanges } from "../test/cli/ranges.ts";
import { type Workshop, workshop } from "../test/nix/builds.ts";
import { ROOT } from "./run.ts";

/** A command line, and what it must leave as it is. */
export interface FaultCase {
  readonly name: string;
  /** Without the caller's own words in front. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Exit codes of hutch's own failures. */
  readonly fails: readonly number[];
  /** Folders in which nothing may be left. */
  readonly folders: readonly string[];
  /** What runs meanwhile, as the same caller, and says a line when it is ready. */
  readonly beside?: readonly string[];
  /** A directory that a successful run makes, whole or not at all; removed before the next. */
  readonly fresh?: string;
  /** What of `fresh` may be there already although nothing has run. */
  readonly early?: readonly string[];
  /** Whether an error may be told as a finding of the report on stdout. */
  readonly reports?: boolean;
  /** Every how manyth call is enough by hand; all when not given. */
  readonly every?: number;
  /** The file that `--json` names. */
  readonly json?: string;
  /** Words in front of the caller's own: a place that is made for the case alone. */
  readonly around?: readonly string[];
  /** Whether standard input is a terminal, which must be as it was in the end. */
  readonly terminal?: boolean;
  /** A file that a successful run makes, whole or not at all; removed before the next. */
  readonly makes?: string;
  /** Whether a failure that says so leaves `hutch-rescued-…`, with what would be lost otherwise. */
  readonly rescues?: boolean;
}

/** Who starts hutch, and what. */
export interface FaultCaller {
  readonly name: string;
  readonly by: readonly string[];
  /** A folder of the caller's. */
  readonly folder: string;
  readonly cases: readonly FaultCase[];
}

const NOBODY = 65534;

/** What the program shows of its sandbox. */
const SHOW =
  "cat /proc/self/mountinfo /proc/self/status /proc/self/uid_map /proc/self/limits /proc/sys/kernel/hostname; ls /proc/self/fd | wc -l; env";

/**
 * Everything that the cases need, for each caller; gone when disposed of.
 * @param exact whether a real build by Nix is made, for `nix-build-shell --exact`
 */
export function faultCases(exact = false): { readonly callers: readonly FaultCaller[] } & Disposable {
  const shop = exact ? workshop() : undefined;
  const build = shop === undefined ? undefined : { shop, kept: shop.fail("package.nix").kept };
  const base = mkdtempSync(join(tmpdir(), "hutch-faults-"));
  chmodSync(base, 0o755);
  const binary = join(base, "hutch");
  try {
    linkSync(join(ROOT, "dist/hutch"), binary);
  } catch {
    copyFileSync(join(ROOT, "dist/hutch"), binary); // another file system
  }
  symlinkSync("hutch", join(base, "nix-build-shell"));
  const setpriv = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "--"];
  const root = process.getuid?.() === 0;
  const callers = [
    { name: root ? "root" : "the caller", by: [], uid: process.getuid?.() ?? 0 },
    ...(root ? [{ name: `uid ${NOBODY}`, by: setpriv, uid: NOBODY }] : []),
  ];
  return {
    callers: callers.map(({ name, by, uid }) => {
      const folder = join(base, String(uid));
      const cases = casesIn(folder, base, uid, build);
      return { name, by, folder, cases };
    }),
    [Symbol.dispose]: () => {
      rmSync(base, { recursive: true, force: true });
      shop?.[Symbol.dispose]();
    },
  };
}

interface ExactBuild {
  readonly shop: Workshop;
  readonly kept: string;
}

function casesIn(folder: string, base: string, uid: number, build: ExactBuild | undefined): readonly FaultCase[] {
  const make = (name: string): string => {
    const path = join(folder, name);
    mkdirSync(path, { recursive: true });
    return path;
  };
  const [tmp, runtime, store, data, tree] = ["tmp", "runtime", "store", "data", "tree"].map(make) as [
    string,
    string,
    string,
    string,
    string,
  ];
  for (const name of ["bin", "proc", "dev", "etc", "tmp", "data"]) make(`tree/${name}`);
  copyFileSync("/bin/busybox", join(tree, "bin/busybox"));
  for (const name of ["sh", "cat", "ls", "wc", "env", "true", "sleep"]) symlinkSync("busybox", join(tree, "bin", name));
  writeFileSync(join(tree, "etc/passwd"), "root:x:0:0::/:/bin/sh\nada:x:7:8::/:/bin/sh\n");
  writeFileSync(join(tree, "etc/group"), "root:x:0:\nada:x:8:\n");
  writeFileSync(join(data, "file"), "content\n");
  writeFileSync(join(folder, "variables"), "A=one\nB=two\n");
  writeFileSync(
    join(folder, "profile.json"),
    '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["acct"],"action":"SCMP_ACT_ERRNO"}]}',
  );
  const json = join(folder, "json");
  makeBuild(folder);
  const all = Bun.spawnSync(["chown", "-R", `${uid}:${uid}`, folder]);
  if (all.exitCode !== 0) throw new Error(all.stderr.toString());
  chownSync(folder, uid, uid);
  const hutch = join(base, "hutch");
  const common = {
    env: { TMPDIR: tmp, XDG_RUNTIME_DIR: runtime, HUTCH_STORE: store },
    folders: [tmp, runtime, store, data, tree],
    fails: [125],
  };
  const run = (name: string, words: readonly string[], more: Partial<FaultCase> = {}): FaultCase => ({
    name,
    argv: [hutch, "run", ...words],
    ...common,
    ...more,
  });
  const layer = ["disk", "disk/upper", "disk/work", "layer.json", "lock"].map((name) => `new/${name}`);
  const beside = [hutch, "run", "--name", "other", tree, "sh", "-c", "echo ready; exec sleep 1000"];
  return [
    run("directory", [
      "-v",
      `${data}:/data:ro`,
      "--tmpfs",
      "/tmp:size=1m",
      "--user",
      "ada",
      "--env-file",
      join(folder, "variables"),
      "--ulimit",
      "nofile=64",
      tree,
      "sh",
      "-c",
      SHOW,
    ]),
    run("read-only", ["--read-only", "/", "sh", "-c", SHOW]),
    run("scratch", [
      "--add",
      "sh",
      "--add",
      "cat",
      "--add",
      "ls",
      "--add",
      "wc",
      "--add",
      "env",
      "scratch",
      "sh",
      "-c",
      SHOW,
    ]),
    run("name", ["--name", "box", tree, "sh", "-c", SHOW]),
    run("persist", ["--persist", "there", tree, "sh", "-c", `${SHOW}; echo new > /new`]),
    run("persist-new", ["--persist", "new", tree, "sh", "-c", `${SHOW}; echo new > /new`], {
      fresh: join(store, "persisted"),
      early: ["new", ...layer],
    }),
    { ...run("layers", []), argv: [hutch, "layers", "--format", "json"], fails: [125] },
    ...(["diff", "rm"] as const).map((name) => ({
      ...run(name, []),
      argv: ["sh", "-c", `"$0" run --persist new "$1" sh -c : && exec "$0" ${name} new`, hutch, tree],
      fresh: join(store, "persisted"),
      early: ["new", ...layer.slice(0, 3), join("new/disk", "work", "work"), ...layer.slice(3)],
    })),
    run("json", ["--json", json, tree, "sh", "-c", SHOW], { json }),
    run("terminal", ["-t", tree, "sh", "-c", SHOW], { terminal: true }),
    // A range of an ordinary user's is in /etc/subuid, which only root can cover.
    ...(process.getuid?.() === 0
      ? [
          run(
            "ranges",
            ["--userns", "auto", tree, "sh", "-c", SHOW],
            uid === 0 ? {} : { around: withRanges(folder, `${NOBODY}:300000:65536\n`) },
          ),
        ]
      : []),
    run("strict", ["--security", "strict", tree, "sh", "-c", SHOW]),
    run("profile", ["--seccomp", join(folder, "profile.json"), "--network", "host", tree, "sh", "-c", SHOW]),
    run("not-found", ["--json", json, tree, "/none"], { fails: [125, 127], json }),
    run("no-start", ["--json", json, "-w", "/bin/busybox/none", tree, "true"], { json }),
    { ...run("plan", []), argv: [hutch, "plan", tree, "true"], fails: [125] },
    { ...run("ps", []), argv: [hutch, "ps"], fails: [125], beside },
    { ...run("kill", []), argv: [hutch, "kill", "--signal", "WINCH", "other"], fails: [125], beside },
    { ...run("exec", []), argv: [hutch, "exec", "-e", "A=b", "other", "sh", "-c", SHOW], beside },
    { ...run("selftest-some", []), argv: [hutch, "selftest", "B12", "B33"], fails: [1, 125], reports: true },
    // For each of the ninety attacks the same is done as for these.
    {
      ...run("selftest", []),
      argv: [hutch, "selftest", "--format", "json"],
      fails: [1, 125],
      every: 20,
      reports: true,
    },
    { ...run("doctor", []), argv: [hutch, "doctor"], fails: [1, 125], reports: true },
    ...nixCases(folder, join(base, "nix-build-shell"), common, build),
    {
      ...run("disk", []),
      argv: ["setarch", "--uname-2.6", hutch, "run", tree, "sh", "-c", SHOW],
    },
  ];
}

const SHELL = "/nix/store/11111111111111111111111111111111-sh/bin";

/** A failed build without Nix: a store with a shell of busybox, and a kept directory. */
function makeBuild(folder: string): void {
  const [bin, kept] = [join(folder, "nix", SHELL), join(folder, "nix-build-x.drv-0")];
  mkdirSync(bin, { recursive: true });
  mkdirSync(join(kept, "x"), { recursive: true });
  copyFileSync("/bin/busybox", join(bin, "sh"));
  for (const name of ["cat", "ls", "wc", "env"]) symlinkSync("sh", join(bin, name));
  // What busybox lacks of bash: declare.
  const shell = `#!${SHELL}/sh\ndeclare() { shift; export "$@"; }\nscript=$2\nshift 3\neval "$script"\n`;
  writeFileSync(join(bin, "bash"), shell, { mode: 0o755 });
  const variables = {
    NIX_BUILD_TOP: "/build",
    PWD: "/build",
    PATH: SHELL,
    SHELL: `${SHELL}/bash`,
    out: `${SHELL}-out`,
  };
  const lines = Object.entries(variables).map(([name, value]) => `declare -x ${name}="${value}"\n`);
  writeFileSync(join(kept, "env-vars"), lines.join(""));
  writeFileSync(join(kept, "x/file"), "text\n");
  symlinkSync("file", join(kept, "x/link"));
}

function nixCases(
  folder: string,
  applet: string,
  common: Pick<FaultCase, "env" | "fails" | "folders">,
  exact: ExactBuild | undefined,
): readonly FaultCase[] {
  const [kept, keep] = [join(folder, "nix-build-x.drv-0"), join(folder, "data/kept")];
  const patch = join(folder, "data/kept.patch");
  const words = [applet, "--store", join(folder, "nix")];
  const command = [kept, "--", "sh", "-c", `${SHOW}; cat x/link; echo new > x/new`];
  const folders = [...common.folders, kept, join(folder, "nix")];
  return [
    { ...common, name: "nix", argv: [...words, ...command], folders },
    { ...common, name: "nix-keep", argv: [...words, "--diff", "--keep", keep, ...command], folders, fresh: keep },
    {
      ...common,
      name: "nix-patch",
      argv: [...words, "--export-patch", patch, ...command],
      folders,
      makes: patch,
      rescues: true,
    },
    ...exactCase(applet, common, exact),
  ];
}

/** A build that a real Nix has made fail, in its exact sandbox. */
function exactCase(
  applet: string,
  common: Pick<FaultCase, "env" | "fails" | "folders">,
  exact: ExactBuild | undefined,
): readonly FaultCase[] {
  if (exact === undefined) return [];
  const { shop, kept } = exact;
  const words = [applet, "--store", shop.store.root, "--exact", kept, "--", "bash", "-c"];
  const show = "cat /proc/self/mountinfo /proc/self/status /proc/self/uid_map /proc/self/limits; ls /proc/self/fd; env";
  const argv = [...words, `${show}; ls -A /build /nix/store; echo new > new`];
  const folders = [...common.folders, kept, shop.store.root];
  return [{ ...common, name: "nix-exact", argv, folders }];
}
