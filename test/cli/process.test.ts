/** What surrounds the program: namespaces, names, network, limits, capabilities, clocks. */

import { expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { type Bench, BUSYBOX, eachCaller, expectFailure, expectSuccess, needs, withProbe } from "./hutch.ts";

/** Whether a server on the machine's loopback, and one inside, can be reached; prints "host:yes inside:yes" and the like. */
const NETWORK = `
import socket, sys
def reach(address):
    try:
        socket.create_connection(address, 2).close()
        return "yes"
    except OSError:
        return "no"
def inside(family, host):
    server = socket.socket(family)
    server.bind((host, 0))
    server.listen()
    return reach((host, server.getsockname()[1]))
print("host:" + reach(("127.0.0.1", int(sys.argv[1]))), "v4:" + inside(socket.AF_INET, "127.0.0.1"), "v6:" + inside(socket.AF_INET6, "::1"))
`;

eachCaller("the program's surroundings", (bench: Bench) => {
  const busybox = (options: readonly string[], script: string) =>
    bench.hutch(["run", ...BUSYBOX, ...options, "scratch", "busybox", "sh", "-c", script]);
  const limits = async (options: readonly string[], name: string) => {
    const result = await busybox(options, `grep '^${name}' /proc/self/limits`);
    return result.stdout.slice(name.length).trim().split(/\s+/).slice(0, 2);
  };
  const bounding = async (...options: readonly string[]) =>
    (await busybox(options, "grep CapBnd /proc/self/status")).stdout.trim().split(/\s+/)[1];

  test("all namespaces are new, but the network's with --network host and time's without --time-offset", async () => {
    const names = readdirSync("/proc/self/ns");
    const seen = async (...options: readonly string[]) => {
      const { stdout } = await busybox(options, "cd /proc/self/ns; for n in *; do echo $n $(readlink $n); done");
      const lines = stdout
        .trim()
        .split("\n")
        .map((line) => line.split(" ") as [string, string]);
      return lines.filter(([name, link]) => link === readlinkSync(`/proc/self/ns/${name}`)).map(([name]) => name);
    };
    expect(names).toContain("cgroup");
    expect(await seen()).toEqual(["time", "time_for_children"]);
    expect(await seen("--network", "host")).toEqual(["net", "time", "time_for_children"]);
    expect(await seen("--time-offset", "5")).toEqual([]);
  });

  test("--network none has loopback and nothing of the host's; --network host is the host's", async () => {
    needs("python3");
    using server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
    const reach = (...options: readonly string[]) =>
      bench.hutch(["run", ...options, "--read-only", "/", "/usr/bin/python3", "-c", NETWORK, String(server.port)]);
    expectSuccess(await reach(), "host:no v4:yes v6:yes\n");
    expectSuccess(await reach("--network=none"), "host:no v4:yes v6:yes\n");
    expect((await reach("--network", "host")).stdout).toStartWith("host:yes v4:yes");
    const devices = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '";
    expectSuccess(await busybox([], devices), "lo\n");
    const own = readFileSync("/proc/net/dev", "utf8")
      .trim()
      .split("\n")
      .slice(2)
      .map((line) => line.split(":")[0]?.trim());
    expect((await busybox(["--network", "host"], devices)).stdout.trim().split("\n").toSorted()).toEqual(
      own.map(String).toSorted(),
    );
  });

  test("--hostname and --domainname", async () => {
    const script =
      "hostname; cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname /etc/hostname; grep -c box /etc/hosts";
    expectSuccess(
      await busybox(["--hostname", "box.example", "--domainname", "nis.example"], script),
      "box.example\nbox.example\nnis.example\nbox.example\n1\n",
    );
    expectSuccess(await busybox(["-h", "a".repeat(64)], "hostname"), `${"a".repeat(64)}\n`);
    expectSuccess(await busybox([], "hostname; cat /proc/sys/kernel/domainname"), "hutch\n(none)\n");
    expect((await busybox([], "hostname changed")).code).not.toBe(0); // needs CAP_SYS_ADMIN
  });

  test("--init has a reaper as PID 1, --no-init the program", async () => {
    const script = "echo $$; read name < /proc/1/comm; echo $name";
    expectSuccess(await busybox([], script), "2\nhutch-init\n");
    expectSuccess(await busybox(["--init"], script), "2\nhutch-init\n");
    expectSuccess(await busybox(["--no-init"], script), "1\nbusybox\n");
  });

  test("--ulimit", async () => {
    const table: readonly (readonly [readonly string[], string, readonly string[]])[] = [
      [["--ulimit", "nofile=100:200"], "Max open files", ["100", "200"]],
      [["--ulimit", "nofile=64"], "Max open files", ["64", "64"]],
      [["--ulimit", "nofile=64", "--ulimit", "nofile=70"], "Max open files", ["70", "70"]],
      [["--ulimit", "core=0", "--ulimit", "cpu=7:9"], "Max cpu time", ["7", "9"]],
      [["--ulimit", "core=0"], "Max core file size", ["0", "0"]],
      [["--ulimit", "fsize=1000:unlimited"], "Max file size", ["1000", "unlimited"]],
      [["--ulimit", "stack=1048576:-1"], "Max stack size", ["1048576", "unlimited"]],
    ];
    const shown = await Promise.all(table.map(([options, name]) => limits(options, name)));
    expect(shown).toEqual(table.map(([, , expected]) => [...expected]));
    const limited = await busybox(["--ulimit", "fsize=4096"], "head -c 100000 /dev/zero > /tmp/f");
    expect(limited.code).toBe(153); // SIGXFSZ, which Bun ignores
    const cpu = await busybox(["--ulimit", "cpu=1"], "while :; do :; done");
    expect(cpu.code).toBe(137); // soft and hard at once
  });

  test("a limit of open files is the program's alone: none is needed to start it", async () => {
    const result = await busybox(["--ulimit", "nofile=3"], "ulimit -n; echo /b*; : < /dev/null");
    expect(result.stdout).toStartWith("3\n");
    expect(result.stderr).toMatch(/too many open files|No file descriptors available/i);
    const cat = ["run", "--ulimit", "nofile=4", ...BUSYBOX, "scratch", "busybox", "cat", "/proc/sys/kernel/hostname"];
    expectSuccess(await bench.hutch(cat), "hutch\n");
  });

  test("the caller's own limit of open files, which Bun raises, is what the program gets", async () => {
    const script = `ulimit -S -n 321; "$HUTCH" run -v /bin/busybox:/bin/busybox:ro scratch busybox sh -c 'ulimit -n'; true`;
    expectSuccess(await bench.shell(script), "321\n");
  });

  test("--ulimit nproc counts the sandbox's own processes, not the caller's others", async () => {
    const script = "for i in 1 2 3 4 5 6; do busybox sleep 5 & echo $i; done";
    const words = ["run", "--ulimit", "nproc=5", ...BUSYBOX, "scratch", "busybox", "sh", "-c", script];
    const result = await bench.shell(
      'for i in 1 2 3 4 5 6; do sleep 60 >/dev/null 2>&1 & o="$o $!"; done; "$HUTCH" "$@"; r=$?; kill $o; exit $r',
      words,
    );
    // hutch's reaper and the shell are two.
    expect(result.stdout).toBe("1\n2\n3\n");
    expect(result.stderr).toContain("can't fork");
  });

  test("--cap-add and --cap-drop", async () => {
    const table: Readonly<Record<string, readonly string[]>> = {
      "00000000800405fb": [],
      "0000000000000000": ["--cap-drop", "ALL"],
      "0000000000000021": ["--cap-drop", "all", "--cap-add", "kill", "--cap-add=CAP_CHOWN"],
      "00000000800405db": ["--cap-drop", "CAP_KILL"],
      "00000000802405fb": ["--cap-add", "SYS_ADMIN"],
      "000001ffffffffff": ["--cap-add", "ALL"],
      "000001ffffdfffff": ["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"],
    };
    const sets = await Promise.all(Object.values(table).map((options) => bounding(...options)));
    expect(sets).toEqual(Object.keys(table));
    expectSuccess(await busybox(["--cap-add", "SYS_ADMIN"], "hostname changed; hostname"), "changed\n");
    expect((await busybox(["--cap-drop", "CHOWN", "--tmpfs", "/t"], "touch /t/f; chown 0:1 /t/f")).code).toBe(1);
  });

  test("the program can gain no privileges, and make no user namespace", async () => {
    const result = await busybox(
      [],
      "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; cat /proc/sys/user/max_user_namespaces",
    );
    expectSuccess(result, "NoNewPrivs:\t1\nSeccomp:\t2\n0\n");
    const nested = await bench.hutch(["run", "--read-only", "/", needs("unshare"), "--user", "true"]);
    expect(nested.code).not.toBe(0);
    expect(nested.stderr).toContain("unshare");
  });

  test("--time-offset moves both clocks, or each its own way", async () => {
    const now = async (...options: readonly string[]) => {
      const result = await bench.hutch(["run", ...withProbe(bench), ...options, "scratch", "/probe", "clocks"]);
      return result.stdout.trim().split(" ").map(Number) as [number, number];
    };
    const [monotonic, boot] = await now();
    const near = (value: number, wanted: number) => {
      expect(value).toBeGreaterThanOrEqual(wanted);
      expect(value).toBeLessThan(wanted + 20);
    };
    const both = await now("--time-offset", "100000");
    near(both[0], monotonic + 100_000);
    near(both[1], boot + 100_000);
    const each = await now("--time-offset", "monotonic=5000,boottime=70000");
    near(each[0], monotonic + 5000);
    near(each[1], boot + 70_000);
    const back = await now("--time-offset", `monotonic=-${Math.floor(monotonic / 2)}`);
    near(back[0], monotonic - Math.floor(monotonic / 2));
    const beyond = await bench.hutch(["run", "--time-offset", "-999999999", "scratch", "x"]);
    expectFailure(beyond, 125, "--time-offset -999999999", "hint");
  });

  test("umask 022, whatever the caller's is", async () => {
    const script = `umask 077; "$HUTCH" run -v /bin/busybox:/bin/busybox:ro scratch busybox sh -c 'umask; touch /f; stat -c %a /f /etc /etc/passwd'`;
    expectSuccess(await bench.shell(script), "0022\n644\n755\n644\n");
  });

  test("--userns auto needs ranges of ids, and says where they come from", async () => {
    const result = await busybox(["--userns", "auto"], "wc -l < /proc/self/uid_map; id -u");
    if (bench.caller.root) expectSuccess(result, "1\n0\n");
    else expectFailure(result, 125, "/etc/subuid", "--userns auto", "usermod");
  });
});
