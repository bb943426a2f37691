/** The command line of hutch: what is understood, what is refused, and in which words. */

import { expect, test } from "bun:test";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import packageJson from "../../package.json" with { type: "json" };
import { BUSYBOX, eachCaller, expectFailure, expectSuccess, withProbe } from "./hutch.ts";

interface Refusal {
  readonly what: string;
  readonly args: readonly string[];
  /** All must be in the one line on stderr. */
  readonly says: readonly string[];
}

const REFUSED: readonly Refusal[] = [
  { what: "an unknown option", args: ["--hostnam", "x", "scratch", "true"], says: ["--hostnam", "--hostname"] },
  { what: "an unknown option without a likeness", args: ["--zzzzzzzz", "scratch", "true"], says: ["--zzzzzzzz"] },
  { what: "an unknown letter", args: ["-Z", "scratch", "true"], says: ["-Z"] },
  { what: "an unknown letter in a cluster", args: ["-iZ", "scratch", "true"], says: ["-Z", "-iZ"] },
  { what: "a value missing", args: ["--env"], says: ["--env", "value"] },
  { what: "a value for a flag", args: ["--read-only=yes", "/", "true"], says: ["--read-only"] },
  { what: "no ROOT", args: [], says: ["ROOT is missing", "hutch run"] },
  { what: "no ROOT behind options", args: ["-e", "A=1"], says: ["ROOT is missing"] },
  { what: "an empty ROOT", args: ["", "true"], says: ["ROOT"] },
  {
    what: "docker's -m",
    args: ["-m", "1g", "scratch", "true"],
    says: ["-m", "no limit on a whole sandbox", "--ulimit"],
  },
  {
    what: "an environment without end",
    args: ["--env-file", "/dev/zero", "scratch", "true"],
    says: ["more than 8 MiB", "--env-file /dev/zero"],
  },
  {
    what: "a directory as an environment",
    args: ["--env-file", "/tmp", "scratch", "true"],
    says: ["/tmp cannot be read", "EISDIR", "--env-file /tmp"],
  },
  {
    what: "a directory as a profile",
    args: ["--seccomp", "/tmp", "scratch", "true"],
    says: ["read /tmp", "EISDIR", "--seccomp /tmp"],
  },
  {
    what: "more mounts than the launcher has room for",
    args: [...Array.from({ length: 9000 }, (_, index) => `--tmpfs=/t${index}`), "scratch", "true"],
    says: ["no room", "fewer mounts"],
  },
  { what: "docker's --dns", args: ["--dns", "1.1.1.1", "scratch", "true"], says: ["--dns", "--network host"] },
  { what: "docker's --device", args: ["--device=/dev/kvm", "scratch", "true"], says: ["--device", "-v /dev/NAME"] },
  {
    what: "two mounts at one place",
    args: ["-v", "/etc:/b", "--tmpfs", "/b", "scratch", "true"],
    says: ["two mounts at /b", "--tmpfs /b and -v /etc:/b"],
  },
  {
    what: "a mount without a type",
    args: ["--mount", "dst=/b,src=/etc", "scratch", "true"],
    says: ["needs type=", "--mount dst=/b"],
  },
  { what: "links that never end as ROOT", args: ["./itself", "true"], says: ["ELOOP", "./itself"] },
  {
    what: "links that never end as a bind source",
    args: ["-v", "./itself:/b", "scratch", "true"],
    says: ["ELOOP", "-v ./itself:/b"],
  },
  { what: "--pids-limit", args: ["--pids-limit=9", "scratch", "true"], says: ["--pids-limit", "--ulimit nproc=N"] },
  { what: "a timeout", args: ["--timeout", "5", "scratch", "true"], says: ["--timeout", "timeout 60 hutch run"] },
  {
    what: "--add in a root whose links never end",
    args: ["--add", "true", "./endless", "true"],
    says: ["links in the root never end", "from --add"],
  },
  { what: "no COMMAND", args: ["scratch"], says: ["COMMAND is missing"] },
  { what: "no COMMAND behind --", args: ["scratch", "--"], says: ["COMMAND is missing"] },
  { what: "an empty COMMAND", args: ["scratch", ""], says: ["COMMAND"] },
  { what: "an image out of reach", args: ["127.0.0.1:9/alpine:3.20", "true"], says: ["127.0.0.1:9"] },
  { what: "a word that is a folder here", args: ["rootfs", "true"], says: ["rootfs", "./rootfs"] },
  { what: "an absent ROOT", args: ["./absent", "true"], says: ["absent", "does not exist"] },
  { what: "an absent ROOT, read-only", args: ["--read-only", "./absent", "true"], says: ["absent", "does not exist"] },
  { what: "a file as ROOT", args: ["./file", "true"], says: ["file", "not a directory"] },
  { what: "--read-only and --writable", args: ["--read-only", "--writable", ".", "true"], says: ["contradict"] },
  { what: "--init and --no-init", args: ["--init", "--no-init", "scratch", "true"], says: ["--init", "--no-init"] },
  { what: "--writable scratch", args: ["--writable", "scratch", "true"], says: ["--writable"] },
  { what: "--pull of scratch", args: ["--pull", "never", "scratch", "true"], says: ["--pull never", "for images"] },
  {
    what: "--pull of a directory",
    args: ["--pull=always", ".", "true"],
    says: ["--pull=always", "for images", ". is"],
  },
  {
    what: "--platform of a directory",
    args: ["--platform", "linux/arm64", "--read-only", "/", "true"],
    says: ["--platform linux/arm64", "for images"],
  },
  { what: "-d", args: ["-d", "scratch", "true"], says: ["-d", "&"] },
  { what: "--detach", args: ["--detach", "scratch", "true"], says: ["--detach"] },
  { what: "--name", args: ["--name", "a/b", "scratch", "true"], says: ["--name a/b", "not a name"] },
  { what: "-p", args: ["-p", "80:80", "scratch", "true"], says: ["-p", "--network host"] },
  { what: "an absent volume", args: ["-v", "/absent:/x", "scratch", "true"], says: ["/absent", "-v /absent:/x"] },
  { what: "a volume with a name", args: ["-v", "data:/x", "scratch", "true"], says: ["data", "./data"] },
  { what: "a volume without a target", args: ["-v", "/tmp", "scratch", "true"], says: ["-v /tmp", "SRC:DST"] },
  {
    what: "a volume with a relative target",
    args: ["-v", "/tmp:x", "scratch", "true"],
    says: ["-v /tmp:x", "absolute"],
  },
  { what: "a volume on the root", args: ["-v", "/tmp:/", "scratch", "true"], says: ["-v /tmp:/", "root"] },
  { what: "a target with ..", args: ["-v", "/tmp:/a/../b", "scratch", "true"], says: ["/a/../b", ".."] },
  { what: "a volume option", args: ["-v", "/tmp:/x:rx", "scratch", "true"], says: ["rx", "ro, rw"] },
  { what: "a volume both ro and rw", args: ["-v", "/tmp:/x:ro,rw", "scratch", "true"], says: ["ro,rw"] },
  { what: "a relative tmpfs", args: ["--tmpfs", "x", "scratch", "true"], says: ["--tmpfs x", "absolute"] },
  { what: "a tmpfs option", args: ["--tmpfs", "/x:siz=1m", "scratch", "true"], says: ["siz=1m", "size="] },
  { what: "a mount of a volume", args: ["--mount", "type=volume,target=/x", "scratch", "true"], says: ["volume"] },
  { what: "a bind without a source", args: ["--mount", "type=bind,target=/x", "scratch", "true"], says: ["source="] },
  { what: "a mount without a target", args: ["--mount", "type=tmpfs", "scratch", "true"], says: ["target="] },
  {
    what: "a mount's unknown key",
    args: ["--mount", "type=tmpfs,target=/x,colour=1", "scratch", "true"],
    says: ["colour"],
  },
  { what: "an unknown user", args: ["-u", "nosuchuser", "scratch", "true"], says: ["nosuchuser", "-u nosuchuser"] },
  { what: "an unknown group", args: ["-u", "0:nosuchgroup", "scratch", "true"], says: ["nosuchgroup"] },
  { what: "a user beyond all ids", args: ["-u", "4294967295", "scratch", "true"], says: ["-u 4294967295"] },
  { what: "a hostname with a newline", args: ["--hostname", "a\nb", "scratch", "true"], says: ["a\\nb", "host name"] },
  { what: "a hostname too long", args: ["--hostname", "x".repeat(65), "scratch", "true"], says: ["65"] },
  { what: "an empty hostname", args: ["--hostname", "", "scratch", "true"], says: ["hostname"] },
  { what: "a domainname with a slash", args: ["--domainname", "a/b", "scratch", "true"], says: ["a/b"] },
  {
    what: "an unknown network",
    args: ["--network", "bridge", "scratch", "true"],
    says: ["--network bridge", "none or host"],
  },
  { what: "an unknown capability", args: ["--cap-add", "FLY", "scratch", "true"], says: ["FLY"] },
  {
    what: "a capability added and dropped",
    args: ["--cap-add", "KILL", "--cap-drop", "KILL", "scratch", "true"],
    says: ["CAP_KILL"],
  },
  { what: "an unknown limit", args: ["--ulimit", "files=1", "scratch", "true"], says: ["files", "nofile"] },
  { what: "a limit without a value", args: ["--ulimit", "nofile", "scratch", "true"], says: ["NAME=SOFT"] },
  { what: "a limit that is no number", args: ["--ulimit", "nofile=many", "scratch", "true"], says: ["many"] },
  {
    what: "a soft limit above the hard one",
    args: ["--ulimit", "nofile=9:3", "scratch", "true"],
    says: ["--ulimit nofile=9:3"],
  },
  { what: "a variable without a name", args: ["-e", "=x", "scratch", "true"], says: ["-e =x", "name"] },
  {
    what: "an absent --env-file",
    args: ["--env-file", "/absent", "scratch", "true"],
    says: ["/absent cannot be read: ENOENT"],
  },
  {
    what: "descriptors that are not open",
    args: ["--preserve-fds", "9", "scratch", "true"],
    says: ["--preserve-fds 9", "descriptor"],
  },
  {
    what: "descriptors that are no number",
    args: ["--preserve-fds", "x", "scratch", "true"],
    says: ["--preserve-fds x"],
  },
  { what: "a time offset", args: ["--time-offset", "soon", "scratch", "true"], says: ["--time-offset soon"] },
  { what: "an unknown clock", args: ["--time-offset", "realtime=1", "scratch", "true"], says: ["realtime"] },
  { what: "a relative working directory", args: ["-w", "x", "scratch", "true"], says: ["-w x", "absolute"] },
  {
    what: "an absent program to add",
    args: ["--add", "no-such-program", "scratch", "true"],
    says: ["no-such-program"],
  },
  { what: "an absent path to add", args: ["--add-path", "/absent", "scratch", "true"], says: ["/absent"] },
];

eachCaller("the command line", (bench) => {
  const folder = bench.folder();
  writeFileSync(`${folder}/file`, "");
  mkdirSync(`${folder}/rootfs`);
  symlinkSync("itself", `${folder}/itself`);
  mkdirSync(`${folder}/endless`);
  symlinkSync("usr", `${folder}/endless/usr`);

  const refusals = REFUSED.map((row) => [row.what, row] as const);
  test.each(refusals)("%s is refused in one line", async (_, { args, says }) => {
    const result = await bench.hutch(["run", ...args], { cwd: folder });
    expectFailure(result, 125, "hutch run: ", ...says);
  });

  test("control characters of the user's words do not reach the terminal", async () => {
    const result = await bench.hutch(["run", "--hostname", "\u001b]0;x\u0007\u009b31m", "scratch", "true"]);
    expectFailure(result, 125, "not a host name");
    expect(result.stderr).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/); // eslint-disable-line no-control-regex
  });

  test("options end at ROOT, and all behind it is the program's", async () => {
    const inside = ["run", ...withProbe(bench), "scratch"];
    const words = ["-la", "--help", "--", "--env", "A=1", "", "-v"];
    const hex = words.map((word) => Buffer.from(word).toString("hex"));
    const given = await bench.hutch([...inside, "/probe", "strings", ...words]);
    expect(given.stdout.split("\n--\n")[0]?.split("\n")).toEqual(hex);
    const behindDashes = await bench.hutch([...inside, "--", "/probe", "strings", "--", "x"]);
    expect(behindDashes.stdout.split("\n").slice(0, 2)).toEqual(["2d2d", "78"]); // only one -- is ours
  });

  test("-- may also stand before ROOT, and values may be joined to their options", async () => {
    const result = await bench.hutch([
      "run",
      ...BUSYBOX,
      "-eA=1",
      "--env=B=2=3",
      "-ie",
      "C=",
      "--",
      "scratch",
      "busybox",
      "env",
    ]);
    expectSuccess(result, /^A=1$/m);
    expect(result.stdout).toMatch(/^B=2=3$/m);
    expect(result.stdout).toMatch(/^C=$/m);
  });

  test("--rm and -i change nothing", async () => {
    const result = await bench.hutch(["run", "--rm", "-i", "--interactive", ...BUSYBOX, "scratch", "busybox", "cat"], {
      stdin: "through",
    });
    expectSuccess(result, "through");
  });

  test("help and version are on stdout", async () => {
    for (const args of [["help"], ["--help"], ["-h"]]) {
      expectSuccess(await bench.hutch(args), /run[\s\S]*plan[\s\S]*mydocker/);
    }
    const run = await bench.hutch(["run", "--help"]);
    expect((await bench.hutch(["help", "run"])).stdout).toBe(run.stdout);
    expectSuccess(await bench.hutch(["help", "mydocker"]), /^USAGE mydocker run /);
    expectSuccess(run, /ROOT \[--\] COMMAND/);
    for (const option of ["--env", "--volume", "--add", "--read-only", "--preserve-fds", "--time-offset"]) {
      expect(run.stdout).toContain(option);
    }
    for (const args of [["--version"], ["version"]]) {
      expectSuccess(await bench.hutch(args), `hutch ${packageJson.version}\n`);
    }
  });

  test("no command, and unknown ones", async () => {
    const none = await bench.hutch([]);
    expect(none.stdout).toContain("run");
    expect(none.code).toBe(125);
    expectFailure(await bench.hutch(["rnu"]), 125, "rnu", "run");
    expectFailure(await bench.hutch(["--bogus"]), 125, "--bogus");
    expectFailure(await bench.hutch(["help", "rnu"]), 125, "rnu", "did you mean run?");
    expectFailure(await bench.hutch(["help", "end-disk-layer"]), 125, "end-disk-layer");
    expectFailure(await bench.hutch(["constructor"]), 125, "constructor");
    expectFailure(await bench.hutch(["toString", "x"]), 125, "toString");
  });

  test("plan prints the steps, or the same as JSON, and starts nothing", async () => {
    const args = ["-v", `${folder}:/data:ro`, "--hostname", "box", "scratch", "/no-such-command"];
    const text = await bench.hutch(["plan", ...args]);
    expectSuccess(text, /pivot_root/);
    expect(text.stdout).toMatch(/→ \/data.*# -v /);
    expect(text.stdout).toMatch(/hostname box.*# --hostname box/);
    const json = await bench.hutch(["plan", "--format", "json", ...args]);
    expectSuccess(json, /^\{/);
    const { steps, init } = JSON.parse(json.stdout) as {
      steps: { op: string; by: string; why: string }[];
      init: boolean;
    };
    expect(init).toBe(true);
    expect(steps.at(-1)).toMatchObject({ op: "exec", by: "program", command: "/no-such-command" });
    expect(steps.every(({ why }) => why !== "")).toBe(true);
    expectFailure(await bench.hutch(["plan", "--format", "xml", ...args]), 125, "xml");
    const ending = await bench.hutch(["plan", "--json", `${folder}/end`, ...args]);
    expectFailure(ending, 125, "nothing is run", `(from --json ${folder}/end)`, "hutch plan --format json");
    expectFailure(await bench.hutch(["plan"]), 125, "ROOT is missing", "hint: hutch plan [OPTIONS] ROOT");
    expectFailure(await bench.hutch(["plan", "scratch"]), 125, "COMMAND is missing", "hint: hutch plan [OPTIONS] ROOT");
    expectFailure(await bench.hutch(["plan", "./absent", "true"], { cwd: folder }), 125, "absent");
  });

  test("a --format behind ROOT is the program's", async () => {
    const text = await bench.hutch(["plan", "scratch", "ls", "--format", "json"]);
    expect(text.stdout.slice(0, 10)).toBe("launcher\n ");
    const inside = await bench.hutch(["plan", "--format=json", "scratch", "ls", "--format", "text"]);
    const { steps } = JSON.parse(inside.stdout) as { steps: { op: string; args?: string[] }[] };
    expect(steps.at(-1)?.args).toEqual(["ls", "--format", "text"]);
  });
});
