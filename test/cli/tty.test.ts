/** `hutch run -t`: a terminal of the sandbox's own, driven through tmux with real programs. */

import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CALLERS, eventually, openDesk, processes } from "./tmux.ts";

describe.each(CALLERS)("a terminal for %s", (_name, uid) => {
  const desk = openDesk(uid);
  afterAll(desk.close);
  afterEach(async () => {
    desk.clear();
    // The launcher's helpers too: they keep its command line.
    await eventually("the end of all processes", () => processes(mine).length === 0);
  });
  const mine = new RegExp(`^${desk.hutch} `);
  const launcher = (shell: number) => {
    const children = readFileSync(`/proc/${shell}/task/${shell}/children`, "utf8").trim().split(" ").map(Number);
    return children.find((pid) => processes(mine).includes(pid)) ?? -1;
  };
  const inside = (programs: string, command: string, options = "") =>
    `${desk.hutch} run -it ${programs
      .split(" ")
      .map((program) => `--add ${program}`)
      .join(" ")} ${options} scratch ${command}`;

  test("without a terminal on standard input it is refused", () => {
    const argv = [...desk.prefix, desk.hutch, "run", "-t", "--add", "true", "scratch", "true"];
    const made = Bun.spawnSync(argv, { stdin: "ignore", cwd: "/" });
    expect(made.stderr.toString()).toStartWith("hutch run: the input device is not a TTY (from -t)");
    expect(made.exitCode).toBe(125);
  });

  test("it is the sandbox's own, also as /dev/tty and /dev/console, with the caller's settings and TERM", async () => {
    const screen = await desk.open(97, 31);
    await screen.status("stty erase ^H -ixon");
    screen.line(inside("bash stty tty ls", "bash --norc"));
    await screen.shows(/bash-.*[#$]$/);
    screen.line(
      "clear() { :; }; tty; tty < /dev/console; stty size < /dev/tty; stty -a; echo TERM=$TERM; [ -t 2 ] && exit 5",
    );
    await screen.shows(/exit\n/);
    const text = screen.text();
    expect(text).toContain("\n/dev/pts/0\n");
    expect(text).toContain("\n31 97\n");
    expect(text).toContain("TERM=screen");
    expect(text).toContain("erase = ^H");
    expect(text).toContain("-ixon");
    expect(await screen.status("true")).toBe(0);
  });

  test.each(["", "-u 1000:1000"])("it belongs to the user inside, with options %p", async (options) => {
    const screen = await desk.open();
    const command = `bash -c 'echo a > /dev/tty; echo b > /dev/console; echo c > /dev/stdout; stat -c %u-%a $(tty)'`;
    expect(await screen.status(inside("bash stat tty", command, options))).toBe(0);
    expect(screen.text()).toMatch(/\na\nb\nc\n(0|1000)-620\n/);
  });

  test("settings and exit code come back as they were", async () => {
    const screen = await desk.open();
    await screen.status("stty -echoctl; stty -g > before");
    expect(await screen.status(inside("bash stty", `bash -c 'stty raw -echo; exit 7'`))).toBe(7);
    expect(await screen.status(inside("bash", `bash -c 'kill -TERM $$'`))).toBe(143);
    expect(await screen.status(inside("bash", "nothing-there"))).toBe(127);
    expect(await screen.status(inside("bash", `bash -c 'exit 3'`, "--no-init"))).toBe(3);
    await screen.status("stty -g > after");
    expect(readFileSync(join(desk.folder, "after"), "latin1")).toBe(
      readFileSync(join(desk.folder, "before"), "latin1"),
    );
  });

  test("with --json", async () => {
    const screen = await desk.open();
    await screen.status("stty -g > before");
    expect(await screen.status(inside("bash", `bash -c 'kill -KILL $$'`, "--json out"))).toBe(137);
    expect(JSON.parse(readFileSync(join(desk.folder, "out"), "utf8"))).toMatchObject({
      signal: "SIGKILL",
      status: 137,
    });
    expect(await screen.status(inside("bash", `bash -c 'exit 137'`, "--json out --no-init"))).toBe(137);
    expect(JSON.parse(readFileSync(join(desk.folder, "out"), "utf8"))).toMatchObject({ exitCode: 137, signal: null });
    await screen.status("stty -g > after");
    expect(readFileSync(join(desk.folder, "after"), "latin1")).toBe(
      readFileSync(join(desk.folder, "before"), "latin1"),
    );
  });

  test("job control inside: ^Z, jobs, fg, ^C, ^\\, ^D", async () => {
    const screen = await desk.open();
    screen.line(inside("bash sleep cat", "bash --norc"));
    await screen.shows(/bash-.*[#$]$/);
    screen.line("sleep 1234567");
    await screen.shows(/1234567\n*$/);
    screen.keys("C-z");
    await screen.shows(/Stopped +sleep 1234567\n.*[#$]$/);
    screen.line("fg");
    await screen.shows(/fg\nsleep 1234567$/);
    screen.keys("C-c");
    await screen.shows(/\^C\n.*[#$]$/);
    expect(await screen.status("(exit $?)")).toBe(130);
    screen.line("sleep 7654321");
    await screen.shows(/sleep 7654321$/);
    screen.keys("C-\\");
    await screen.shows(/Quit.*\n.*[#$]$/);
    expect(await screen.status("(exit $?)")).toBe(131);
    screen.line("echo go; cat; echo eof-$?");
    await screen.shows(/^go$/m);
    screen.line("some words");
    await screen.shows(/some words\nsome words$/);
    screen.keys("C-d");
    await screen.shows(/\neof-0\n/);
    screen.keys("C-d");
    await screen.shows(/exit\n\$$/);
  });

  test("a change of the window's size is passed on", async () => {
    const screen = await desk.open(100, 30);
    const script = `trap "stty size" WINCH; echo ready; while :; do sleep 0.1; done`;
    screen.line(inside("bash stty sleep", `bash -c '${script}'`));
    await screen.shows(/^ready/m);
    screen.resize(71, 19);
    await screen.shows(/^19 71$/m);
    screen.resize(120, 40);
    await screen.shows(/^40 120$/m);
    screen.keys("C-c");
    await screen.shows(/\$$/);
  });

  test("vim edits and saves a file", async () => {
    const screen = await desk.open();
    const file = join(desk.folder, "text");
    writeFileSync(file, "first\n");
    if (uid !== 0) Bun.spawnSync(["chown", `${uid}`, file]);
    else Bun.spawnSync(["chmod", "666", file]);
    screen.line(inside("vim", "vim -u NONE /text", `-v ${file}:/text`));
    await screen.shows(/first\n~/);
    screen.type("osecond line");
    screen.keys("Escape");
    screen.line(":wq");
    await screen.shows(/\$$/);
    expect(await screen.status("true")).toBe(0);
    expect(readFileSync(file, "utf8")).toBe("first\nsecond line\n");
  });

  test("less and top", async () => {
    const screen = await desk.open();
    screen.line(inside("bash seq less", `bash -c 'seq 5000 | less'`));
    await screen.shows(/^1\n2\n/m);
    screen.type("G");
    await screen.shows(/\n5000\n/);
    screen.type("q");
    await screen.shows(/\$$/);
    screen.line(inside("top", "top -d 1"));
    await screen.shows(/PID +USER[^]*top/);
    screen.type("q");
    await screen.shows(/\$$/);
    expect(await screen.status("true")).toBe(0);
  });

  test("100,000 lines arrive whole, also where the reader takes his time", async () => {
    const screen = await desk.open();
    expect(await screen.status(inside("seq", "seq 100000"))).toBe(0);
    expect(screen.text()).toMatch(/\n99999\n100000\n/);
    await screen.status(`${inside("seq", "seq 100000")} | tr -d '\\r' | cksum > got; seq 100000 | cksum > want`);
    expect(readFileSync(join(desk.folder, "got"), "utf8")).toBe(readFileSync(join(desk.folder, "want"), "utf8"));
    await screen.status(`${inside("seq", "seq 100000")} | { sleep 0.5; tail -n 1; } > got`);
    expect(readFileSync(join(desk.folder, "got"), "utf8")).toBe("100000\r\n");
  });

  test("what is pasted arrives whole", async () => {
    const screen = await desk.open();
    const script = `stty raw -echo; echo ready; head -c 60000 | cksum`;
    screen.line(inside("bash stty head cksum", `bash -c '${script}'`));
    await screen.shows(/^ready/m);
    const text = Array.from({ length: 60 }, (_, i) => String(i % 10).repeat(1000));
    for (const part of text) screen.type(part);
    const want = Bun.spawnSync(["cksum"], { stdin: Buffer.from(text.join("")) })
      .stdout.toString()
      .trim();
    await screen.shows(new RegExp(want));
  });

  test("a reader that goes away ends the program", async () => {
    const screen = await desk.open();
    await screen.status(`${inside("yes", "yes")} | head -n 1; [ \${PIPESTATUS[0]} -gt 128 ]`);
    expect(screen.text()).toMatch(/\ny\nend-1 <0>/);
  });

  test("hutch killed: the terminal is restored and nothing stays", async () => {
    const screen = await desk.open();
    await screen.status("stty -g > before");
    const run = inside("bash sleep", `bash -c 'echo ready; sleep 7777777'`);
    screen.line(`${run}; stty -g > after; echo "killed <$?>"`);
    await screen.shows(/^ready/m);
    expect(processes(mine).length).toBe(4);
    process.kill(launcher(screen.pid), "SIGKILL");
    await screen.shows(/killed <\d+>/);
    await eventually("the end of the sandbox", () => processes(/sleep 7777777/).length === 0);
    await eventually("the terminal as before", () => {
      Bun.spawnSync(["true"]);
      screen.line("stty -g > after");
      return readFileSync(join(desk.folder, "after"), "latin1") === readFileSync(join(desk.folder, "before"), "latin1");
    });
  });

  test("kill -TSTP hutch gives the terminal back, fg takes it again", async () => {
    const screen = await desk.open();
    await screen.status("stty -g > before");
    screen.line(inside("bash", "bash --norc"));
    await screen.shows(/bash-.*[#$]$/);
    process.kill(launcher(screen.pid), "SIGTSTP");
    await screen.shows(/Stopped/);
    await screen.status("stty -g > after");
    expect(readFileSync(join(desk.folder, "after"), "latin1")).toBe(
      readFileSync(join(desk.folder, "before"), "latin1"),
    );
    screen.resize(66, 22);
    screen.line("fg");
    await screen.shows(/run -it[^]*\n$|run -it/);
    screen.line("echo again $((40 + 2)) $COLUMNS");
    await screen.shows(/again 42 66/);
    screen.line("exit 9");
    await screen.shows(/exit\n/);
    expect(await screen.status("(exit $?)")).toBe(9);
  });

  test("in the background it waits for the foreground", async () => {
    const screen = await desk.open();
    screen.line(`${inside("bash", `bash -c 'read word; echo got $word; exit 4'`)} & PID=$!`);
    await eventually("the stop", () => {
      screen.keys("Enter");
      return /Stopped/.test(screen.text());
    });
    screen.line("fg");
    await screen.shows(/\nfg\n|fg\n/);
    screen.line("hello");
    await screen.shows(/got hello/);
    expect(await screen.status("(exit $?)")).toBe(4);
  });

  test("the end of the caller's terminal ends the sandbox, also of a program that does not mind", async () => {
    const screen = await desk.open();
    const script = `trap "" HUP; echo ready; while :; do sleep 3333333; done`;
    screen.line(inside("bash sleep", `bash -c '${script}'`));
    await screen.shows(/^ready/m);
    expect(processes(/sleep 3333333/).length).toBeGreaterThan(0);
    screen.close();
    await eventually("the end of the sandbox", () => processes(/sleep 3333333/).length === 0);
  });

  test("a program that is told of the end may finish its work", async () => {
    const screen = await desk.open();
    const script = `trap "echo told > /out/told; exit" HUP; echo ready; while :; do sleep 0.1; done`;
    screen.line(inside("bash sleep", `bash -c '${script}'`, `-v ${desk.folder}:/out`));
    await screen.shows(/^ready/m);
    screen.close();
    if (uid !== 0) await eventually("the trap", () => existsSync(join(desk.folder, "told")));
  });
});
