/** The exit code is the program's own, 128 + its signal, or one of three that are hutch's. */

import { expect, test } from "bun:test";
import { BUSYBOX, eachCaller, expectFailure, withProbe } from "./hutch.ts";

const SIGNALS = [1, 2, 3, 9, 11, 13, 15, 25, 31, 34, 64];

eachCaller("exit codes", (bench) => {
  const probe = (init: string, ...words: readonly string[]) =>
    bench.hutch(["run", init, ...withProbe(bench), "scratch", "/probe", ...words]);

  test.each(["--init", "--no-init"])("the program's own, %s", async (init) => {
    const codes = init === "--init" ? [0, 1, 42, 125, 126, 127, 137, 255, 256 + 7] : [0, 1, 127, 255];
    const results = await Promise.all(codes.map((code) => probe(init, "exit", String(code))));
    expect(results).toEqual(codes.map((code) => ({ stdout: "", stderr: "", code: code % 256, signal: null })));
  });

  test("128 + the signal that ended it", async () => {
    const results = await Promise.all(SIGNALS.map((signal) => probe("--init", "raise", String(signal))));
    expect(results.map(({ code }) => code)).toEqual(SIGNALS.map((signal) => 128 + signal));
    expect((await probe("--init", "abort")).code).toBe(134);
    expect((await probe("--init", "alarm")).code).toBe(142);
  });

  test("a PID 1 cannot end itself by a signal, but a fault ends it", async () => {
    expect((await probe("--no-init", "raise", "15")).code).toBe(0); // pid_namespaces(7): no default actions
    expect((await probe("--no-init", "raise", "9")).code).toBe(0);
    expect((await probe("--no-init", "abort")).code).toBeGreaterThan(128);
  });

  test("127 for what is not there, by path and by name", async () => {
    expectFailure(await bench.hutch(["run", "scratch", "/no/such"]), 127, "/no/such", "not found");
    expectFailure(await bench.hutch(["run", "scratch", "nosuch"]), 127, "nosuch", "PATH", "--add");
    expectFailure(await bench.hutch(["run", "--no-init", "scratch", "nosuch"]), 127, "nosuch");
    expectFailure(await bench.hutch(["run", ...BUSYBOX, "scratch", "/bin/busybox/x"]), 127, "/bin/busybox/x");
    expectFailure(await bench.hutch(["run", "--read-only", "/", "nosuch"]), 127, "nosuch");
    expectFailure(
      await bench.hutch(["run", "-w", "/etc", "--read-only", "/", "./passwd-nosuch"]),
      127,
      "./passwd-nosuch",
    );
  });

  test("127 for a program whose loader, or a script whose interpreter, is not in the root", async () => {
    const root = bench.folder({ script: { executable: "#!/no/interpreter\n" } });
    expectFailure(await bench.hutch(["run", root, "/script"]), 127, "/script", "interpreter");
    expectFailure(await bench.hutch(["run", "-v", "/usr/bin/env:/env:ro", "scratch", "/env"]), 127, "/env", "loader");
  });

  test("126 for what cannot be executed", async () => {
    const noise = { executable: "\u0001\u0002 neither ELF nor script\n" };
    const root = bench.folder({ plain: "text\n", noise, directory: { directory: true } });
    expectFailure(await bench.hutch(["run", root, "/plain"]), 126, "/plain", "EACCES");
    expectFailure(await bench.hutch(["run", root, "/noise"]), 126, "/noise", "ENOEXEC");
    expectFailure(await bench.hutch(["run", root, "/directory"]), 126, "/directory", "EACCES");
    expectFailure(await bench.hutch(["run", "--no-init", root, "/plain"]), 126, "/plain");
    const noexec = ["run", "-v", `${bench.probe}:/probe:ro,noexec`, "scratch", "/probe", "exit", "0"];
    expectFailure(await bench.hutch(noexec), 126, "/probe", "noexec");
  });

  test("as execvp does, a directory of PATH that holds something else is passed over", async () => {
    const root = bench.folder({ "first/tool": { directory: true }, second: { directory: true }, third: "" });
    const args = [
      "run",
      "-v",
      `${bench.probe}:/second/tool:ro`,
      "-e",
      "PATH=/third:/first:/second",
      root,
      "tool",
      "exit",
      "3",
    ];
    const result = await bench.hutch(args);
    expect(result).toMatchObject({ stderr: "", code: 3 });
    // Nothing better comes: then it is "found, but not executable".
    expectFailure(await bench.hutch(["run", "-e", "PATH=/first:/nowhere", root, "tool"]), 126, "tool");
  });

  test("125 when a step is forbidden, with the step, errno and the user's words", async () => {
    const missing = await bench.hutch(["run", "-v", "/tmp:/no/such/target", "--read-only", "/", "true"]);
    expectFailure(missing, 125, "/no/such/target", "ENOENT", "-v /tmp:/no/such/target", "hint");
    const kinds = await bench.hutch(["run", "-v", "/tmp:/etc/passwd", "--read-only", "/", "true"]);
    expectFailure(kinds, 125, "/etc/passwd", "move_mount", "-v /tmp:/etc/passwd", "hint");
    const below = await bench.hutch(["run", "/", "true"]);
    expectFailure(below, 125, "mounted below", "--read-only");
    const directory = await bench.hutch(["run", "-w", "/no/such", "--read-only", "/", "true"]);
    expectFailure(directory, 125, "chdir /no/such", "ENOENT", "-w /no/such");
    const hard = await bench.hutch(["run", "--ulimit", "nofile=9999999999", "scratch", "true"]);
    expectFailure(hard, 125, "NOFILE", "EPERM", "--ulimit nofile=9999999999");
  });

  test("125 with too few open files, wherever that is met, and how to have more", async () => {
    for (const options of [["scratch"], ["--read-only", "/"], ["--hostname", "x", "--read-only", "/"]]) {
      for (const limit of ["5", "10", "14"]) {
        const few = await bench.shell(`ulimit -n ${limit}; exec "$HUTCH" run "$@"`, [...options, "true"]);
        expectFailure(few, 125, "EMFILE", "hint: ", "raise the limit of open files (ulimit -n)");
      }
    }
  });
});
