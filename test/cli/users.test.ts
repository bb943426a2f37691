/** Who the program is, inside and outside. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { findDescendant } from "./host-processes.ts";
import { BUSYBOX, eachCaller, expectFailure, expectSuccess, withProbe } from "./hutch.ts";

/** Users and groups that the host does not have. */
const FILES = {
  "etc/passwd":
    "root:x:0:0::/root:/bin/sh\nalice:x:1815:100:Ada:/home/alice:/bin/sh\nbob:x:7:8:::\n42:x:4242:1::/n:/\n",
  "etc/group": "root:x:0:\nusers:x:100:\nengine:x:1843:alice,bob\nwheel:x:10:root,alice\n",
};

const ID = ["busybox", "sh", "-c", 'echo "$(id -u):$(id -g) [$(id -G)] $HOME"'];

eachCaller("users", (bench) => {
  const root = bench.folder(FILES);
  const who = (user: string) => bench.hutch(["run", ...BUSYBOX, "-u", user, root, ...ID]);

  test("0:0 with home /root, unless asked otherwise", async () => {
    expectSuccess(await bench.hutch(["run", ...BUSYBOX, root, ...ID]), "0:0 [0] /root\n");
    expectSuccess(await bench.hutch(["run", ...BUSYBOX, "scratch", ...ID]), "0:0 [0] /root\n");
  });

  test.each([
    ["5", "5:0 [0] /\n"],
    ["5:6", "5:6 [6] /\n"],
    ["65534:65534", "65534:65534 [65534] /\n"],
    ["bob:users", "7:100 [100] /\n"],
    ["1815:engine", "1815:1843 [1843] /home/alice\n"],
    ["0:100", "0:100 [100] /root\n"],
    ["42", "4242:1 [1] /n\n"], // a user of that name comes first
  ])("-u %s by number, or by names of the root's own files", async (user, expected) => {
    expectSuccess(await who(user), expected);
  });

  test("a name brings its group, groups and home", async () => {
    // An ordinary user has a single group to give.
    const groups = bench.caller.root ? "100 10 1843" : "100";
    for (const user of ["alice", "1815"]) {
      const result = await who(user);
      expect(result.stderr).toBe("");
      const [, first, all, home] = /^1815:(\d+) \[([\d ]+)\] (.*)\n$/.exec(result.stdout) ?? [];
      expect([first, all?.split(" ").toSorted().join(" "), home]).toEqual([
        "100",
        groups.split(" ").toSorted().join(" "),
        "/home/alice",
      ]);
    }
  });

  test("lines of passwd and group that are none are passed over", async () => {
    const odd = bench.folder({
      "etc/passwd": "malformed\n:x:1:1::/:\nbad:x:y:1::/:\nalice:x:3:4",
      "etc/group": "a\nb:x\nc:x:z:\nd:x:9:",
    });
    const probe = (user: string) => bench.hutch(["run", ...withProbe(bench), "-u", user, odd, "/probe", "ids"]);
    expectSuccess(await probe("alice:d"), "3:9\n");
    expectFailure(await probe("bad"), 125, "bad");
    expectFailure(await probe("alice:c"), 125, '"c"');
  });

  test("names of the host are none of the root's", async () => {
    expect(readFileSync("/etc/passwd", "utf8")).toContain("\ndaemon:");
    expectFailure(await who("daemon"), 125, "daemon", "-u daemon", "passwd");
    expectFailure(await who("alice:daemon"), 125, "daemon", "group");
    expectSuccess(await bench.hutch(["run", "-u", "daemon", "--read-only", "/", "id", "-un"]), "daemon\n");
  });

  test("passwd is read inside of the root, whatever its links say", async () => {
    const linked = bench.folder({ "etc/passwd": { link: "/etc/real" }, "etc/real": "eve:x:11:12::/:\n" });
    expectSuccess(await bench.hutch(["run", ...BUSYBOX, "-u", "eve", linked, ...ID]), "11:12 [12] /\n");
    const out = bench.folder({ "etc/passwd": { link: "../../../../../../etc/passwd" } });
    expectFailure(await bench.hutch(["run", "-u", "daemon", out, "true"]), 125, "daemon");
  });

  test("a user other than root has no capabilities; root has docker's less three", async () => {
    const caps = ["busybox", "sh", "-c", "grep -E '^Cap(Prm|Eff|Bnd|Amb)|^NoNewPrivs|^Seccomp:' /proc/self/status"];
    const read = (text: string) =>
      Object.fromEntries(
        text
          .trim()
          .split("\n")
          .map((line) => line.split(":\t")),
      );
    const asRoot = read((await bench.hutch(["run", ...BUSYBOX, "scratch", ...caps])).stdout);
    expect(asRoot).toEqual({
      CapPrm: "00000000800405fb",
      CapEff: "00000000800405fb",
      CapBnd: "00000000800405fb",
      CapAmb: "0000000000000000",
      NoNewPrivs: "1",
      Seccomp: "2",
    });
    const asUser = read((await bench.hutch(["run", ...BUSYBOX, "-u", "5", "scratch", ...caps])).stdout);
    expect(asUser).toMatchObject({
      CapPrm: "0000000000000000",
      CapEff: "0000000000000000",
      CapBnd: "00000000800405fb",
    });
  });

  test("outside, the program is never the machine's root", async () => {
    const running = bench.start([
      bench.binary,
      "run",
      ...BUSYBOX,
      "scratch",
      "busybox",
      "sh",
      "-c",
      "echo up; exec busybox cat",
    ]);
    await running.says("up");
    const pid = await findDescendant(running.pid, "busybox cat");
    const ids = /^Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.slice(1);
    const expected = bench.caller.root ? expect.stringMatching(/^[1-9]\d{4,}$/) : String(bench.caller.uid);
    expect(ids).toEqual([expected, expected, expected, expected]);
    expect(readFileSync(`/proc/${pid}/uid_map`, "utf8").trim().split(/\s+/)[0]).toBe("0");
    running.closeInput();
    expect((await running.ended).code).toBe(0);
  });

  test("files made inside belong to the caller outside, or to the range of root's sandboxes", async () => {
    const data = bench.folder();
    const open = await bench.shell(`chmod 777 ${data}`);
    expect(open.code).toBe(0);
    expectSuccess(
      await bench.hutch(["run", ...BUSYBOX, "-v", `${data}:/data`, "scratch", "busybox", "touch", "/data/made"]),
      "",
    );
    const { uid } = await Bun.file(`${data}/made`).stat();
    if (bench.caller.root) expect(uid).toBeGreaterThan(65535);
    else expect(uid).toBe(bench.caller.uid);
  });
});
