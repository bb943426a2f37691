/** Programs of the host in a sandbox: --add and --add-path. */

import { expect, test } from "bun:test";
import { chmodSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { type Bench, BUSYBOX, eachCaller, expectFailure, expectSuccess, needs } from "./hutch.ts";

/** Compile C by the machine's gcc. */
function compile(output: string, source: string, ...flags: readonly string[]): string {
  const made = Bun.spawnSync([needs("gcc"), "-x", "c", "-", "-o", output, ...flags], { stdin: Buffer.from(source) });
  if (made.exitCode !== 0) throw new Error(`gcc: ${made.stderr.toString()}`);
  return output;
}

/** A program that needs libone.so, which needs libtwo.so, both found by $ORIGIN. */
function programWithLibraries(folder: string): string {
  const shared = ["-shared", "-fPIC", "-Wl,-rpath,$ORIGIN"];
  compile(`${folder}/libtwo.so`, "int two(void) { return 2; }", ...shared);
  compile(
    `${folder}/libone.so`,
    "int two(void); int one(void) { return two() - 1; }",
    ...shared,
    `-L${folder}`,
    "-ltwo",
  );
  const main = '#include <stdio.h>\nint one(void); int main(void) { printf("%d\\n", one()); return 0; }';
  return compile(`${folder}/program`, main, "-Wl,-rpath,$ORIGIN", `-L${folder}`, "-lone", "-ltwo");
}

/** Make an ELF file one of another machine (e_machine, at byte 18): 243 is RISC-V. */
function forRiscV(path: string): void {
  const bytes = readFileSync(path);
  bytes[18] = 243;
  writeFileSync(path, bytes);
}

/** A dynamic loader that makes a file and ends, in place of loading anything. */
const loaderThatMakes = (path: string) => `
#include <fcntl.h>
#include <sys/syscall.h>
static long call(long n, long a, long b, long c, long d) {
#ifdef __x86_64__
  register long r10 __asm__("r10") = d;
  __asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return n;
#else
  register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c, x3 __asm__("x3") = d;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#endif
}
void _start(void) {
  call(SYS_openat, AT_FDCWD, (long)"${path}", O_CREAT | O_WRONLY, 0644);
  for (;;) call(SYS_exit, 0, 0, 0, 0);
}`;

const run = (bench: Bench, ...args: readonly string[]) => bench.hutch(["run", ...args]);

eachCaller("--add", (bench) => {
  test("bash, ls, cat and whoami in a directory that has none", async () => {
    const cwd = bench.folder({
      "rootfs/home/hello.txt": "Hello, World!\n",
      "rootfs/bin": { directory: true },
      "rootfs/etc": { directory: true },
    });
    const programs = ["--add", "bash", "--add", "ls", "--add", "cat", "--add", "whoami"];
    const script = "ls /home && cat /home/hello.txt";
    const result = await bench.hutch(["run", ...programs, "./rootfs", "bash", "-c", script], { cwd });
    expectSuccess(result, "hello.txt\nHello, World!\n");
    const absent = await bench.hutch(["run", ...programs, "./rootfs", "bash", "-c", "pwd; find /"], { cwd });
    expect(absent).toMatchObject({ stdout: "/\n", stderr: "bash: line 1: find: command not found\n", code: 127 });
    const alone = await bench.hutch(
      ["run", "--add", "/bin/bash", "./rootfs", "bash", "-c", "whoami; pwd; cd home; pwd"],
      { cwd },
    );
    expect(alone).toMatchObject({ stdout: "/\n/home\n", stderr: "bash: line 1: whoami: command not found\n", code: 0 });
  });

  test("on scratch, by name, by path, and both", async () => {
    expectSuccess(
      await run(bench, "--add", "bash", "--add", "/usr/bin/whoami", "scratch", "bash", "-c", "whoami"),
      "root\n",
    );
    expectSuccess(await run(bench, "--add", "ls", "scratch", "ls", "/"), /^bin\ndev\netc\nhome\n/);
    expectSuccess(await run(bench, "--add", "/bin/ls", "--add", "ls", "scratch", "/bin/ls", "-d", "/tmp"), "/tmp\n");
  });

  test("what is added cannot be changed", async () => {
    const result = await run(
      bench,
      "--add",
      "bash",
      "--add",
      "ls",
      "scratch",
      "bash",
      "-c",
      'echo x > "$(type -p ls)"',
    );
    expect(result.stderr).toContain("Read-only file system");
    expect(result.code).toBe(1);
  });

  test("python3 with its library", async () => {
    if (!existsSync("/usr/bin/python3")) throw new Error("this test needs python3, which is not installed");
    const args = [
      "--add",
      "/usr/bin/python3",
      "scratch",
      "/usr/bin/python3",
      "-c",
      "import json; print(json.dumps([1]))",
    ];
    expectSuccess(await run(bench, ...args), "[1]\n");
  });

  test("libraries by $ORIGIN, one needed by another", async () => {
    const program = programWithLibraries(bench.folder());
    expectSuccess(await run(bench, "--add", program, "scratch", program), "1\n");
  });

  test("a missing library: which file, wanted by whom", async () => {
    const folder = bench.folder();
    const program = programWithLibraries(folder);
    rmSync(`${folder}/libtwo.so`);
    expectFailure(
      await run(bench, "--add", program, "scratch", program),
      125,
      "libtwo.so",
      "libone.so",
      `--add ${program}`,
    );
    rmSync(`${folder}/libone.so`);
    expectFailure(await run(bench, "--add", program, "scratch", program), 125, "libone.so", program);
  });

  test("a library or program of another machine", async () => {
    const folder = bench.folder();
    const program = programWithLibraries(folder);
    forRiscV(`${folder}/libtwo.so`);
    expectFailure(await run(bench, "--add", program, "scratch", program), 125, "libtwo.so", "libone.so");
    forRiscV(program);
    expectFailure(await run(bench, "--add", program, "scratch", program), 125, program, "riscv");
  });

  test("files that are no programs", async () => {
    const folder = bench.folder({
      text: { executable: "just text\n" },
      plain: "#!/bin/sh\n",
      directory: { directory: true },
    });
    for (const name of ["text", "plain", "directory"]) {
      expectFailure(await run(bench, "--add", `${folder}/${name}`, "scratch", "x"), 125, `${folder}/${name}`);
    }
    writeFileSync(`${folder}/cut`, readFileSync("/bin/ls").subarray(0, 100));
    chmodSync(`${folder}/cut`, 0o755);
    expectFailure(await run(bench, "--add", `${folder}/cut`, "scratch", "x"), 125, `${folder}/cut`);
  });

  test("scripts bring what #! names, one behind the other", async () => {
    const folder = bench.folder({
      shell: { executable: '#!/bin/bash\necho "shell $0 $1"\n' },
      env: { executable: "#!/usr/bin/env bash\necho env\n" },
    });
    writeFileSync(`${folder}/nested`, `#!${folder}/shell option\n`, { mode: 0o755 });
    chmodSync(`${folder}/nested`, 0o755);
    expectSuccess(
      await run(bench, "--add", `${folder}/shell`, "scratch", `${folder}/shell`, "x"),
      `shell ${folder}/shell x\n`,
    );
    expectSuccess(await run(bench, "--add", `${folder}/env`, "scratch", `${folder}/env`), "env\n");
    expectSuccess(
      await run(bench, "--add", `${folder}/nested`, "scratch", `${folder}/nested`),
      `shell ${folder}/shell option\n`,
    );
    writeFileSync(`${folder}/lost`, "#!/no/interpreter\n", { mode: 0o755 });
    chmodSync(`${folder}/lost`, 0o755);
    expectFailure(
      await run(bench, "--add", `${folder}/lost`, "scratch", "x"),
      125,
      "/no/interpreter",
      `${folder}/lost`,
    );
  });

  test("chains of links keep their names", async () => {
    const folder = bench.folder({
      first: { link: "second" },
      second: { link: "sub/third" },
      "sub/third": { link: "../real/program" },
      real: { directory: true },
      loop: { link: "loop" },
    });
    renameSync(compile(`${folder}/made`, "int main(void) { return 3; }"), `${folder}/real/program`);
    expect(await run(bench, "--add", `${folder}/first`, "scratch", `${folder}/first`)).toMatchObject({
      stderr: "",
      code: 3,
    });
    expect(await run(bench, "--add", `${folder}/first`, "scratch", `${folder}/second`)).toMatchObject({
      stderr: "",
      code: 3,
    });
    expectFailure(await run(bench, "--add", `${folder}/loop`, "scratch", "x"), 125, `${folder}/loop`);
  });

  test("nothing of the program is executed to find out what it needs", async () => {
    const folder = bench.folder();
    await bench.shell(`chmod 777 ${folder}`);
    const source = loaderThatMakes(`${folder}/executed`);
    compile(`${folder}/loader`, source, "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector");
    const program = compile(
      `${folder}/program`,
      "int main(void) { return 0; }",
      `-Wl,--dynamic-linker=${folder}/loader`,
    );
    const result = await bench.hutch(["plan", "--add", program, "scratch", program]);
    expect(result.stdout).toContain(`${folder}/loader`);
    expect(existsSync(`${folder}/executed`)).toBe(false);
    expectSuccess(await bench.shell(program), ""); // it would have been seen
    expect(existsSync(`${folder}/executed`)).toBe(true);
  });

  test("--add-path: files and directories at the same path, read-only", async () => {
    const folder = bench.folder({ "data/one": "1", "data/sub/two": "2", single: "3" });
    const options = [...BUSYBOX, "--add-path", `${folder}/data`, "--add-path", `${folder}/single`];
    const script = `cat ${folder}/data/one ${folder}/data/sub/two ${folder}/single; echo; ls ${folder}; echo x > ${folder}/data/one`;
    const result = await run(bench, ...options, "scratch", "busybox", "sh", "-c", script);
    expect(result.stdout).toBe("123\ndata\nsingle\n");
    expect(result.stderr).toContain("Read-only file system");
  });
});
