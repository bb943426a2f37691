import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { envVar, formatEnvVars } from "../../src/nix/env-vars.ts";
import { greeting, keptDiffFunction, shellStartup, type ShellFacts } from "../../src/nix/phases.ts";
import { removeTree } from "../../src/sessions/remove-tree.ts";
import { needProgram, run } from "./builds.ts";

// The shell text runs under this machine's bash with the fixture's small stdenv; no sandbox is needed for that.
const FIXTURE = `${import.meta.dir}/fixture`;
const bash = needProgram("bash", "bash");
const roots: string[] = [];
let top = "";
let state = "";

beforeEach(() => {
  const root = fs.realpathSync(fs.mkdtempSync(`${tmpdir()}/hutch-phases-`));
  roots.push(root);
  top = `${root}/build dir`;
  state = `${root}/state`;
  fs.mkdirSync(top);
  fs.mkdirSync(state);
});
afterAll(() => {
  for (const root of roots) removeTree(root);
});

const PACKAGE: Readonly<Record<string, string>> = {
  name: "sample-1",
  stdenv: `${FIXTURE}/stdenv-like`,
  src: `${FIXTURE}/src`,
  initialPath: "/usr",
  shell: bash,
  SHELL: bash,
  HOME: "/homeless-shelter",
  NIX_LOG_FD: "2",
  buildPhase: 'echo "compiling $name"\nmode=fast\nexport BUILT_BY=me\necho product > sample\n',
  checkPhase: 'echo "mode ${mode:-unknown}, built by ${BUILT_BY:-nobody}"\n[ -e repaired ]',
  installCheckPhase: 'test -e "$out/bin/sample"',
};

function prepare(more: Readonly<Record<string, string>> = {}, drop: readonly string[] = []): void {
  const values = { ...PACKAGE, out: `${state}/../out`, NIX_BUILD_TOP: top, PWD: top, TMPDIR: top, ...more };
  const variables = Object.entries(values).filter(([name]) => !drop.includes(name));
  fs.writeFileSync(`${top}/env-vars`, formatEnvVars(variables.map(([name, value]) => envVar(name, value))));
}

const facts = (): ShellFacts => ({
  name: "sample-1",
  phase: "checkPhase",
  keptDirectory: "/tmp/nix-build-sample.drv-0",
  changes: undefined,
  workingDirectory: `${top}/source`,
});

/** Feed commands to a shell that has read the startup file, as without a terminal. */
function shell(script: string, shellFacts: ShellFacts = facts()) {
  const startup = shellStartup({ shell: bash, buildTop: top, stateDirectory: state }, shellFacts);
  fs.writeFileSync(`${state}/startup`, startup);
  const child = Bun.spawnSync([bash, "-s"], {
    stdin: Buffer.from(script),
    env: { BASH_ENV: `${state}/startup` },
    cwd: "/",
  });
  return { code: child.exitCode, stdout: child.stdout.toString(), stderr: child.stderr.toString() };
}

describe("phase", () => {
  test("phases one by one: directory, exports and other variables go from one to the next", () => {
    prepare();
    const script = `phase unpackPhase; echo "1:$? $PWD"
      phase buildPhase; echo "2:$? $BUILT_BY $HUTCH_PHASE"
      phase checkPhase; echo "3:$?"
      echo > repaired; phase checkPhase; echo "4:$?"`;
    const { stdout, stderr } = shell(script);
    expect(stdout).toContain(`1:0 ${top}/source\n`);
    expect(stdout).toContain("compiling sample-1\n2:0 me buildPhase\n");
    expect(stdout).toContain("mode fast, built by me\n3:1\n");
    expect(stdout).toContain("mode fast, built by me\n4:0\n");
    expect(stderr).toContain("exit handler saw 1");
    expect(fs.readFileSync(`${top}/source/sample`, "utf8")).toBe("product\n");
  });

  test("a failing phase leaves the shell alive, and its own directory", () => {
    prepare({ buildPhase: "cd ..; mkdir deep; cd deep; export STEP=2; exit 7" });
    fs.mkdirSync(`${top}/source`);
    const { stdout } = shell('phase buildPhase; echo "$? $PWD $STEP"');
    expect(stdout).toEndWith(`7 ${top}/deep 2\n`);
  });

  // bash's words on unwinding differ by how deep the failure is
  test.each(["false", "(exit 1)", "deep() { local x=1; false; }; deep", "local a=1; eval 'eval false'"])(
    "a failure of %s says what the build says, and nothing else",
    (checkPhase) => {
      prepare({ checkPhase: `echo told; ${checkPhase}` });
      expect(shell('phase checkPhase; echo "$?"')).toMatchObject({
        stdout: "Running phase: checkPhase\ntold\n1\n",
        stderr: "exit handler saw 1\n",
      });
    },
  );

  test("Nix's own messages are left out of the log, by printf or by echo; all else in it stays", () => {
    const message = '@nix { \\"action\\": \\"setPhase\\" }';
    const checkPhase = `echo "${message}" >&$NIX_LOG_FD; printf "${message}\\n" >&$NIX_LOG_FD; echo "WARNING: x" >&$NIX_LOG_FD; printf -v y %s 1; printf '%s@nix {\\n' "$y"`;
    prepare({ checkPhase });
    expect(shell("phase checkPhase")).toMatchObject({
      stdout: "Running phase: checkPhase\n1@nix {\n",
      stderr: "WARNING: x\n",
    });
  });

  test("--from runs the rest in order and stops at the failure", () => {
    prepare();
    const { stdout } = shell('phase --from unpackPhase; echo "$? $PWD $HUTCH_PHASE"');
    expect([...stdout.matchAll(/Running phase: \w+/g)].map(String)).toEqual(
      ["unpackPhase", "buildPhase", "checkPhase"].map((p) => `Running phase: ${p}`),
    );
    expect(stdout).toEndWith(`1 ${top}/source checkPhase\n`);
    const rest = shell("cd source; touch repaired; phase --from checkPhase; echo $?");
    expect(rest.stdout).toEndWith("0\n");
    expect(fs.readFileSync(`${state}/../out/bin/sample`, "utf8")).toBe("product\n");
  });

  test("phases lists those that exist, with the build's own order", () => {
    prepare();
    expect(shell("phases").stdout).toBe("unpackPhase\nbuildPhase\ncheckPhase\ninstallPhase\ninstallCheckPhase\n");
    prepare({ phases: "buildPhase ownPhase", ownPhase: "echo own" });
    expect(shell("phases; phase ownPhase")).toMatchObject({
      code: 0,
      stdout: "buildPhase\nownPhase\nRunning phase: ownPhase\nown\n",
    });
  });

  test("a stdenv without runPhase: genericBuild with that phase only", () => {
    fs.mkdirSync(`${state}/old`);
    const setup =
      'set -e\ngenericBuild() { if [ -n "${buildCommand:-}" ]; then eval "$buildCommand"; return; fi; for p in $phases; do curPhase=$p; eval "${!p:-$p}"; done; }\n';
    fs.writeFileSync(`${state}/old/setup`, setup);
    prepare({
      stdenv: `${state}/old`,
      buildCommand: "echo WRONG",
      firstPhase: "echo first",
      secondPhase: "echo second",
    });
    expect(shell("phase secondPhase").stdout).toBe("second\n");
    const old = {
      stdenv: `${state}/old`,
      phases: "firstPhase secondPhase thirdPhase",
      firstPhase: "echo 1",
      secondPhase: "echo 2",
      thirdPhase: "echo 3",
    };
    prepare(old);
    expect(shell("phase --from secondPhase").stdout).toBe("2\n3\n");
  });

  test("structured attributes are sourced again", () => {
    const attributes = ["stdenv", "src", "name", "shell", "initialPath", "checkPhase"];
    prepare({}, attributes);
    const lines = attributes.map((name) => `declare ${name}='${(PACKAGE[name] ?? "").replaceAll("'", "'\\''")}'\n`);
    fs.writeFileSync(
      `${top}/.attrs.sh`,
      `${lines.join("")}declare -A outputs=(['out']='${state}/../out' )\ndeclare -a list=('a b' 'c' )\ndeclare -A table=(['x']='1' )\n`,
    );
    fs.writeFileSync(`${top}/.attrs.json`, "{}");
    const probe = 'export probe=\'echo "${#list[@]} ${list[0]} ${table[x]} $(basename "$NIX_ATTRS_SH_FILE")"\'';
    const { stdout, stderr } = shell(`${probe}; phase probe; phase unpackPhase; echo "$? $PWD"`);
    expect(stderr).not.toContain("unbound");
    expect(stdout).toContain("2 a b 1 .attrs.sh\n");
    expect(stdout).toEndWith(`0 ${top}/source\n`);
  });

  test("mistakes are said", () => {
    prepare();
    expect(shell("phase").stderr).toContain("usage: phase NAME");
    expect(shell("phase nothingPhase; echo $?")).toMatchObject({
      stdout: "2\n",
      stderr: "phase: no phase nothingPhase; see phases\n",
    });
    expect(shell("phase --from dumpVars; echo $?")).toMatchObject({
      stdout: "2\n",
      stderr: "phase: dumpVars is not one of the build's phases; see phases\n",
    });
    prepare({}, ["stdenv"]);
    expect(shell("phase buildPhase; echo $?")).toMatchObject({
      stdout: "2\n",
      stderr: "phase: this build has no stdenv\n",
    });
  });

  test("variables that a build exports cannot upset the functions", () => {
    prepare({ status: "x", verb: "y", line: "z", directory: "/nowhere", letter: "q", names: "n" });
    const { stdout } = shell('phase unpackPhase; echo "$? $PWD $status $verb $line $directory $letter $names"');
    expect(stdout).toEndWith(`0 ${top}/source x y z /nowhere q n\n`);
  });
});

describe("the shell", () => {
  test("starts where the build failed, with the build's variables and a lasting shell", () => {
    prepare();
    fs.mkdirSync(`${top}/source`);
    const { stdout } = shell('echo "$PWD|$name|${BASH_ENV-none}|$-"; false; echo alive');
    expect(stdout).toMatch(new RegExp(`^${RegExp.escape(top)}/source\\|sample-1\\|none\\|[^eu]*\nalive\n$`));
  });

  test("starts at the top when that directory is gone, and without env-vars", () => {
    expect(shell("pwd").stdout).toBe(`${top}\n`);
  });

  test("the prompt shows package and phase as they are, never runs them", () => {
    prepare();
    const name = "$(touch hacked)`id`\\u'\"";
    const { stdout } = shell('printf %s "${PS1@P}"', { ...facts(), name });
    expect(stdout).toBe(`[${name}:checkPhase] ${top}${process.getuid?.() === 0 ? "#" : "$"} `);
    expect(fs.existsSync(`${top}/hacked`)).toBe(false);
    expect(shell('printf %s "${PS1@P}"', { ...facts(), phase: undefined }).stdout).toStartWith("[sample-1] ");
  });

  test("on a terminal: prompt, line editing, phases", async () => {
    prepare();
    const startup = shellStartup({ shell: bash, buildTop: top, stateDirectory: state }, facts());
    fs.writeFileSync(`${state}/startup`, startup);
    let screen = "";
    let notify = () => {};
    const shown = async (text: string) => {
      while (!screen.includes(text)) await new Promise<void>((resolve) => (notify = resolve));
      screen = screen.slice(screen.indexOf(text) + text.length);
    };
    const child = Bun.spawn([bash, "--noprofile", "--rcfile", `${state}/startup`, "-i"], {
      env: { TERM: "xterm" },
      cwd: "/",
      terminal: {
        cols: 200,
        rows: 50,
        data: (_, bytes) => {
          screen += new TextDecoder().decode(bytes);
          notify();
        },
      },
    });
    await shown("[sample-1:checkPhase] ");
    child.terminal?.write("phase --from unpackPhaseX\x7f\r"); // a deleted character: the line is edited
    await shown("mode fast, built by me");
    await shown("[sample-1:checkPhase] ");
    child.terminal?.write("exit 5\r");
    expect(await child.exited).toBe(5);
  });

  test("the greeting", () => {
    expect(greeting(facts())).toBe(
      "sample-1, failed in checkPhase; kept in /tmp/nix-build-sample.drv-0; changes are thrown away",
    );
    expect(greeting({ ...facts(), phase: undefined, changes: "/home/me/fix" })).toBe(
      "sample-1; kept in /tmp/nix-build-sample.drv-0; changes are kept in /home/me/fix",
    );
  });
});

test("kept-diff inside: by diff, and by bash alone", () => {
  const kept = `${state}/kept`;
  fs.mkdirSync(`${kept}/src`, { recursive: true });
  fs.mkdirSync(`${top}/src`);
  for (const [path, before, after] of [
    ["src/a b.c", "one\n", "two\n"],
    ["src/same", "s", "s"],
    ["env-vars", "1", "2"],
  ] as const) {
    fs.writeFileSync(`${kept}/${path}`, before);
    fs.writeFileSync(`${top}/${path}`, after);
  }
  fs.writeFileSync(`${kept}/src/gone`, "");
  fs.writeFileSync(`${top}/src/.new`, "n\n");
  const program = `${keptDiffFunction(kept, top)}\nkept-diff; echo "=$?"`;
  const withDiff = run([bash, "-c", program], { env: { PATH: process.env["PATH"] ?? "" } }).stdout;
  expect(withDiff).toContain("-one\n+two\n");
  expect(withDiff).toContain("+n\n");
  expect(withDiff).not.toMatch(/^[+-]{3} .*env-vars/m);
  expect(withDiff).toEndWith("=1\n");
  const alone = run([bash, "-c", program], { env: { PATH: "/nowhere" } });
  expect(alone).toMatchObject({ stdout: "added    src/.new\nchanged  src/a b.c\nremoved  src/gone\n=1\n", stderr: "" });
  // what the build makes, by its name or as a binary file that was not there
  for (const path of ["src/x.o", "target/deep/x", "config.log", "src/libx.so.1.2", "src/program"]) {
    fs.mkdirSync(`${top}/${path.split("/").slice(0, -1).join("/")}`, { recursive: true });
    fs.writeFileSync(`${top}/${path}`, path === "src/program" ? "\x7fELF\0" : "made");
  }
  const sources = `${keptDiffFunction(kept, top)}\nkept-diff --no-products; echo "=$?"`;
  expect(run([bash, "-c", sources], { env: { PATH: "/nowhere" } })).toMatchObject({
    stdout: "added    src/.new\nchanged  src/a b.c\nremoved  src/gone\n=1\n",
    stderr: "",
  });
  const shown = run([bash, "-c", sources], { env: { PATH: process.env["PATH"] ?? "" } }).stdout;
  expect(shown).toContain("-one\n+two\n");
  expect(shown).toContain("+n\n");
  expect(shown).not.toMatch(/made|ELF|Binary|program/);
  expect(shown).toEndWith("=1\n");
  expect(run([bash, "-c", program], { env: { PATH: "/nowhere" } }).stdout).toContain("added    target/deep/x\n");
});
