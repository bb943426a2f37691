/** A sandbox on a terminal that it inherits: keys that make signals, job control, and what must not be typed. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { descendants, findDescendant, isAlive, stateOf, until } from "./host-processes.ts";
import { eachCaller } from "./hutch.ts";
import { CONTROL, openTerminal, type Terminal } from "./terminal.ts";

/** Leave the shell, with no job left. */
async function leave(terminal: Terminal): Promise<void> {
  terminal.type("exit\n");
  await terminal.ended;
}

eachCaller("a terminal", (bench) => {
  test.each(["--init", "--no-init"])("^C, ^\\ and a new size arrive once, %s", async (init) => {
    const terminal = await openTerminal(bench);
    terminal.type(`$RUN ${init} scratch /probe signals; echo "code $?"\n`);
    await terminal.shows("ready\r\n");
    terminal.type(CONTROL.c);
    await terminal.shows("[2:1]");
    terminal.type(CONTROL.backslash);
    await terminal.shows("[3:1]");
    terminal.resize(90, 30);
    await terminal.shows("[28:1]");
    terminal.type(CONTROL.c);
    await terminal.shows("[2:2]");
    terminal.type("q\n");
    await terminal.shows("2=2 15=0 1=0 3=1 10=0 12=0 28=1 18=0 20=0 end\r\n");
    await terminal.shows("code 0\r\n");
    await leave(terminal);
  });

  test.each([
    ["--init", CONTROL.c, 130],
    ["--no-init", CONTROL.c, 130],
    ["--init", CONTROL.backslash, 131],
    ["--no-init", CONTROL.backslash, 131],
  ])("%s: a key ends a program that has no handler", async (init, key, code) => {
    const terminal = await openTerminal(bench);
    terminal.type(`$RUN ${init} scratch busybox cat\n`);
    await findDescendant(terminal.pid, "busybox cat");
    terminal.type("typed\n");
    await terminal.shows("typed\r\ntyped\r\n");
    terminal.type(key);
    await terminal.shows("shell> ");
    terminal.type('echo "code $?"\n');
    await terminal.shows(`code ${code}\r\n`);
    await leave(terminal);
  });

  test.each(["--init", "--no-init"])(
    "^C breaks a loop of the shell's, unless the program goes on, %s",
    async (init) => {
      const terminal = await openTerminal(bench);
      terminal.type(`for n in 1 2 3; do $RUN ${init} scratch busybox cat; echo "next $n"; done\n`);
      await findDescendant(terminal.pid, "busybox cat");
      terminal.type(CONTROL.c);
      await terminal.shows("shell> ");
      terminal.type(`for n in 1 2; do $RUN ${init} scratch /probe signals; echo "next $n"; done; echo over\n`);
      for (const n of [1, 2]) {
        await terminal.shows("ready\r\n");
        terminal.type(CONTROL.c);
        await terminal.shows("[2:1]");
        terminal.type("q\n");
        await terminal.shows(`next ${n}\r\n`);
      }
      await terminal.shows("over\r\n");
      expect(terminal.screen()).not.toContain("next 3");
      expect(terminal.screen().match(/\nnext 1/g)).toHaveLength(1);
      await leave(terminal);
    },
  );

  test.each(["--init", "--no-init"])("^Z stops it all, fg goes on where it was, %s", async (init) => {
    const terminal = await openTerminal(bench);
    terminal.type(`$RUN ${init} scratch busybox cat; echo "code $?"\n`);
    const program = await findDescendant(terminal.pid, "busybox cat");
    terminal.type("one\n");
    await terminal.shows("one\r\none\r\n");
    for (const word of ["two", "three"]) {
      terminal.type(CONTROL.z);
      await terminal.shows(/Stopped/);
      await terminal.shows("shell> ");
      expect(stateOf(program)).toBe("T");
      terminal.type("fg\n");
      await until("the program to go on", () => stateOf(program) === "S");
      terminal.type(`${word}\n`);
      await terminal.shows(`${word}\r\n${word}\r\n`);
    }
    terminal.type(CONTROL.d);
    await until("the end of the program", () => !isAlive(program));
    await leave(terminal);
  });

  test("^Z and fg to a program that catches both and stops itself, as editors do: each once", async () => {
    const terminal = await openTerminal(bench);
    terminal.type("$RUN scratch /probe signals stop\n");
    await terminal.shows("ready\r\n");
    terminal.type(CONTROL.z);
    // The program and the shell write at the same time.
    await until(
      "both to say so",
      () => /\[20:1\]/.test(terminal.screen()) && /Stopped[^]*shell> /.test(terminal.screen()),
    );
    terminal.type("fg\n");
    await terminal.shows("[18:1]");
    terminal.type(CONTROL.c);
    await terminal.shows("[2:1]");
    terminal.type("q\n");
    await terminal.shows("2=1 15=0 1=0 3=0 10=0 12=0 28=0 18=1 20=1 end");
    await leave(terminal);
  });

  test.each(["--init", "--no-init"])(
    "^Z to a program that ignores it leaves it in the foreground, %s",
    async (init) => {
      const terminal = await openTerminal(bench);
      terminal.type(`$RUN ${init} scratch busybox sh -c 'trap "" TSTP; echo up; read line; echo "got $line"'\n`);
      await terminal.shows("up\r\n");
      const [launcher = 0] = descendants(terminal.pid);
      try {
        terminal.type(CONTROL.z);
        const stops = until("a stop", () => stateOf(launcher) === "T", 0.5);
        expect(await stops.catch(() => false)).toBe(false);
        terminal.type("line\n");
        await terminal.shows("got line", 1);
      } finally {
        terminal.close();
        await terminal.ended;
      }
    },
  );

  test.each(["--init", "--no-init"])("kill of the shell's job reaches the program once, %s", async (init) => {
    const terminal = await openTerminal(bench);
    terminal.type(`$RUN ${init} scratch /probe signals < <(trap '' USR1 USR2 TERM HUP WINCH; exec sleep 1000) &\n`);
    await terminal.shows("ready\r\n");
    try {
      for (const [name, number] of [
        ["USR1", 10],
        ["USR2", 12],
        ["TERM", 15],
        ["HUP", 1],
        ["WINCH", 28],
      ] as const) {
        terminal.type(`kill -${name} %1\n`); // to the process group
        await terminal.shows(`[${number}:1]`, 1);
      }
      expect(terminal.screen()).not.toContain(":2]");
    } finally {
      terminal.type("kill -KILL %1; wait; exit\n");
      await terminal.ended;
    }
  });

  test("exec on a terminal: what is sent to the job reaches the program once, and ^C is not lost", async () => {
    const terminal = await openTerminal(bench, { XDG_RUNTIME_DIR: bench.folder() });
    terminal.type("$RUN --name box scratch busybox sh -c 'echo up; exec busybox sleep 1000' &\n");
    await terminal.shows("up\r\n");
    for (let delay = 0; delay < 20; delay++) {
      terminal.type("$HUTCH exec box busybox cat\n");
      await findDescendant(terminal.pid, / exec box busybox cat$/);
      await Bun.sleep(delay);
      terminal.type(CONTROL.c);
      await terminal.shows("shell> ", 2);
    }
    const input = join(bench.folder(), "input");
    terminal.type(`mkfifo ${input}; exec 9<>${input}\n`);
    terminal.type(`$HUTCH exec box /probe signals < ${input} 9>&- &\n`);
    await terminal.shows("ready\r\n");
    for (const [name, number] of [
      ["USR1", 10],
      ["TERM", 15],
    ] as const) {
      terminal.type(`kill -${name} %2\n`);
      await terminal.shows(`[${number}:1]`, 1);
    }
    terminal.type("echo q >&9\n");
    await terminal.shows("2=0 15=1 1=0 3=0 10=1 12=0 28=0 18=0 20=0 end\r\n");
    terminal.type("kill -KILL %1; wait; exit\n");
    await terminal.ended;
  });

  test.each(["--init", "--no-init"])("^C while the sandbox is being made is not lost, %s", async (init) => {
    const terminal = await openTerminal(bench);
    for (let delay = 0; delay < 20; delay++) {
      terminal.type(`$RUN ${init} scratch busybox cat\n`);
      await findDescendant(terminal.pid, / run .* scratch busybox cat$/); // before, it is the shell that loses it
      await Bun.sleep(delay);
      terminal.type(CONTROL.c);
      await terminal.shows("shell> ", 2);
    }
    await leave(terminal);
  });

  test("a background program that reads waits for fg", async () => {
    const terminal = await openTerminal(bench);
    terminal.type("$RUN scratch busybox cat &\n");
    const program = await findDescendant(terminal.pid, "busybox cat");
    await until("the program to stop for input", () => stateOf(program) === "T");
    const [launcher = 0] = descendants(terminal.pid); // the shell's job, which stops after it
    await until("hutch to stop as well", () => stateOf(launcher) === "T");
    await terminal.shows("shell> ");
    terminal.type("fg\n");
    try {
      await until("the program to go on", () => stateOf(program) === "S", 0.5);
      terminal.type("for cat\n");
      await terminal.shows("for cat\r\nfor cat\r\n");
      terminal.type(CONTROL.d);
      await until("the end of the program", () => !isAlive(program));
    } finally {
      terminal.close();
      await terminal.ended;
    }
  });

  test("what a program prints on a terminal of its own waits for the caller's to be raw: each line has one end", async () => {
    const terminal = await openTerminal(bench);
    // In the background it is stopped where it would make the terminal raw; the program has printed by then.
    terminal.type("$RUN -t scratch busybox echo early &\n");
    await until("the shell to know that it has stopped", () => {
      terminal.type("\n");
      return /Stopped/.test(terminal.screen());
    });
    await terminal.shows(/Stopped[^]*shell> /);
    expect(terminal.screen()).not.toContain("\nearly");
    terminal.type("fg\n");
    await terminal.shows(/\nearly\r+\n/);
    await terminal.shows("shell> "); // what is typed before goes to the program
    expect(terminal.screen()).toContain("\nearly\r\n");
    await leave(terminal);
  });

  test("an end of file that was typed before a terminal of the program's own was there reaches it", async () => {
    const terminal = await openTerminal(bench);
    terminal.type("busybox sleep 0.3; $RUN -t scratch busybox sh -c 'echo hi; cat; echo over'\n");
    await findDescendant(terminal.pid, "busybox sleep 0.3");
    terminal.type(`typed\n${CONTROL.d}`);
    await terminal.shows("hi\r\n");
    await terminal.shows("over\r\n");
    await terminal.shows("shell> ");
    expect(terminal.screen()).not.toContain("^@");
    expect(terminal.screen()).toContain("typed\r\nhi");
    await leave(terminal);
  });

  test.each(["--init", "--no-init"])("the terminal cannot be typed into, %s", async (init) => {
    const terminal = await openTerminal(bench);
    // The probe is a read-only file of the caller's own: an ordinary user may not have SYS_ADMIN beside it.
    const most = bench.caller.root ? "--cap-add ALL" : "--cap-add ALL --cap-drop SYS_ADMIN";
    for (const options of [init, `${init} ${most}`]) {
      terminal.type(`$RUN ${options} scratch /probe type\n`);
      await terminal.shows("EPERM EPERM EPERM EPERM size:ok\r\n");
    }
    await leave(terminal);
  });

  test("TERM, isatty and /dev/tty", async () => {
    const terminal = await openTerminal(bench, { TERM: "vt220" });
    terminal.type(
      `$RUN scratch busybox sh -c 'echo "[$TERM]"; test -t 0 && test -t 1 && echo tty; echo own > /dev/tty'\n`,
    );
    await terminal.shows("[vt220]\r\ntty\r\nown\r\n");
    terminal.type(`$RUN -e TERM=mine scratch busybox sh -c 'echo "[$TERM]"'\n`);
    await terminal.shows("[mine]\r\n");
    await leave(terminal);
  });

  test("a window that is closed ends the sandbox", async () => {
    const terminal = await openTerminal(bench);
    terminal.type("$RUN scratch busybox cat\n");
    const program = await findDescendant(terminal.pid, "busybox cat");
    const all = descendants(terminal.pid);
    terminal.close();
    await until("the end of all", () => !isAlive(program) && all.every((pid) => !isAlive(pid)));
    await terminal.ended;
  });
});
