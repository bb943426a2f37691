/** Descriptors that hutch shares with others: left as they are, and passed on when asked for. */

import { expect, test } from "bun:test";
import { BUSYBOX, eachCaller, expectFailure, expectSuccess, withProbe } from "./hutch.ts";

const RUN = '"$HUTCH" run -v "$1:/probe:ro"';

eachCaller("descriptors", (bench) => {
  const shell = (script: string) => bench.shell(script, [bench.probe]);

  test.each([
    [0, ["run", "scratch", "/probe", "exit", "0"]],
    [7, ["run", "--no-init", "scratch", "/probe", "exit", "7"]],
    [127, ["run", "scratch", "/no/such"]],
    [125, ["run", "--bogus", "scratch", "x"]],
    [125, ["run", "./absent", "x"]],
    [125, ["run", "-v", "/tmp:/etc/passwd", "scratch", "x"]],
    [0, ["plan", "scratch", "x"]],
    [0, ["--version"]],
    [0, ["--help"]],
    [0, ["run", "--help"]],
    [125, ["bogus"]],
    [127, ["mydocker", "run", "image", "/no/such"]],
    [0, ["mydocker", "run", "image", "/bin/true"]],
  ] as const)("O_NONBLOCK and all other flags are untouched: %i from %j", async (code, args) => {
    const [command, ...rest] = args;
    const all = command === "run" ? ["run", ...withProbe(bench), ...rest] : args;
    const result = await bench.start([bench.probe, "flags", bench.binary, ...all], {
      stdin: "",
    }).ended;
    expect(result.stdout).toBe(`same ${code}\n`);
  });

  test("a pipe that is already non-blocking loses nothing of a long output", async () => {
    const big = "x".repeat(100_000);
    const script = `"$1" nonblock "$HUTCH" plan --format json -e "A=$2" -e "B=$2" scratch x | { sleep 0.2; wc -c; }; "$HUTCH" plan --format json -e "A=$2" -e "B=$2" scratch x > "$3/out"; wc -c < "$3/out"`;
    const result = await bench.shell(script, [bench.probe, big, bench.folder()]);
    const [piped, filed] = result.stdout.trim().split("\n").map(Number);
    expect(result.stderr).toBe("");
    expect(filed).toBeGreaterThan(200_000);
    expect(piped).toBe(filed);
  });

  test("an output that cannot be written is a failure", async () => {
    const full = await shell('"$HUTCH" plan scratch x > /dev/full');
    expect(full.stderr).toMatch(/^[^\n]*ENOSPC[^\n]*\n$/);
    expect(full.code).toBe(125);
    const gone = await shell('{ "$HUTCH" run --help; echo "$?" >&2; } | true');
    expect(gone.stderr).not.toContain("internal error");
    for (const closed of [">&-", "<&- >&-"]) {
      const shut = await shell(`"$HUTCH" plan scratch x ${closed}`);
      expectFailure(shut, 125, "write to descriptor 1: EBADF", "standard output is closed");
    }
    for (const open of [">/dev/null", "<>/dev/null >&0", "<&- >/dev/null", "2>&- >/dev/null"])
      expectSuccess(await shell(`"$HUTCH" plan scratch x ${open}`), "");
  });

  test("--preserve-fds passes so many on, and no more", async () => {
    const open = "exec 3</etc/hostname 4>/dev/null 5</etc/passwd 6</etc";
    expectSuccess(await shell(`${open}; ${RUN} --preserve-fds 0 scratch /probe descriptors`), "0 1 2 \n");
    expectSuccess(await shell(`${open}; ${RUN} --preserve-fds 1 scratch /probe descriptors`), "0 1 2 3 \n");
    expectSuccess(await shell(`${open}; ${RUN} --preserve-fds=3 scratch /probe descriptors`), "0 1 2 3 4 5 \n");
    expectSuccess(
      await shell(`${open}; ${RUN} --no-init --preserve-fds=4 scratch /probe descriptors`),
      "0 1 2 3 4 5 6 \n",
    );
    expectFailure(
      await shell(`exec 3</etc/passwd; ${RUN} --preserve-fds 2 scratch /probe descriptors`),
      125,
      "descriptor 4",
      "--preserve-fds 2",
    );
    expectFailure(
      await shell(`exec 4</etc/passwd; ${RUN} --preserve-fds 2 scratch /probe descriptors`),
      125,
      "descriptor 3",
    );
  });

  test("what is passed on works: a file of the host, and a pipe", async () => {
    const busybox = `"$HUTCH" run -v /bin/busybox:/bin/busybox:ro`;
    const file = bench.folder({ secret: "by descriptor only" });
    expectSuccess(
      await shell(`${busybox} --preserve-fds 1 scratch busybox sh -c 'cat <&3' 3<${file}/secret`),
      "by descriptor only",
    );
    expectSuccess(
      await shell(`${busybox} --preserve-fds 1 scratch busybox sh -c 'echo back >&3' 3>&1 >/dev/null`),
      "back\n",
    );
  });

  test("the program does not get a descriptor of the launcher, nor sees one in /proc", async () => {
    const result = await bench.hutch([
      "run",
      ...BUSYBOX,
      "scratch",
      "busybox",
      "sh",
      "-c",
      "ls -l /proc/self/fd | grep -c memfd; ls /proc/1/fd 2>&1 | tail -n 1",
    ]);
    expect(result.stdout).toMatch(/^0\n(.*Permission denied)?/);
  });
});
