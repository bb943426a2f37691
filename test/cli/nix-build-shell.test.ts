/** The assignment's six points, to the letter, on the built binary. */

import { expect, test } from "bun:test";
import { copyFileSync, existsSync, readdirSync } from "node:fs";
import { eachCaller, expectSuccess, needs } from "./hutch.ts";
import { applet, enter, failedBuild } from "./nix-builds.ts";

const build = failedBuild();

eachCaller("nix-build-shell", (bench) => {
  const run = (...command: readonly string[]) => enter(bench, build, bench.folder(), [build.kept(), ...command]);
  const script = (text: string) => run("bash", "-c", text);

  test("a command with its arguments, byte for byte", async () => {
    expectSuccess(
      await run("bash", "-c", 'printf "[%s]" "$@"', "x", "", "a b", "$HOME", "--", "-c"),
      "[][a b][$HOME][--][-c]",
    );
  });

  test("options end at BUILD_DIR, and one -- behind it is passed over", async () => {
    expectSuccess(await run("--", "env", "--help"), /^Usage: env/);
  });

  test("hutch nix-build-shell is the same", async () => {
    const args = ["nix-build-shell", "--store", build.shop().store.root, build.kept(), "true"];
    expectSuccess(await bench.hutch(args, { env: { TMPDIR: bench.folder() } }), "");
  });

  test("a symbolic link to the directory", async () => {
    const folder = bench.folder({ link: { link: build.kept() } });
    expectSuccess(await enter(bench, build, bench.folder(), [`${folder}/link`, "true"]), "");
  });

  test("a directory whose name is no UTF-8, and spaces in it", async () => {
    const enterIt =
      'd=$(printf "%s/b \\377" "$1"); cp -a "$2" "$d"; shift 2; export TMPDIR=$1; shift; exec "$@" "$d" ls /build';
    const argv = [applet(bench), "--store", build.shop().store.root];
    const result = await bench.shell(enterIt, [bench.folder(), build.kept(), bench.folder(), ...argv]);
    expectSuccess(result, "env-vars\nsource\n");
  });

  test("TMPDIR, --keep and --log whose names are no UTF-8", async () => {
    const names = 'n=$(printf "%s/n \\377" "$1"); mkdir "$n"; export TMPDIR=$n; echo "@nix { }" >"$n/log"; shift; ';
    const enterIt = `${names} kept=$1; shift; "$@" --keep "$n/new" --log "$n/log" "$kept" /bin/sh -c "echo x >made"; ls "$n" "$n/new"; rm -r "$n/new" "$n/log"; "$@" "$kept" ls /build; ls -A "$n"`;
    const argv = [applet(bench), "--store", build.shop().store.root];
    const result = await bench.shell(enterIt, [bench.folder(), build.kept(), ...argv]);
    const { stdout } = result;
    expectSuccess(
      { ...result, stdout: stdout.replace(/^.*:$/gm, "") },
      "\nlog\nnew\n\n\nenv-vars\nmade\nsource\nenv-vars\nsource\n",
    );
  });

  test.each(["build", "b"])(
    "a directory whose child %s is the build: it, the child, and links to both",
    async (layer) => {
      const folder = bench.folder();
      const copy = 'mkdir "$1/top" && cp -a "$2" "$1/top/$3" && ln -s "$1/top" "$1/l" && ln -s "$1/top/$3" "$1/m"';
      expectSuccess(await bench.shell(copy, [folder, build.kept(), layer]), "");
      for (const path of ["top", `top/${layer}`, "l", "m"])
        expectSuccess(
          await enter(bench, build, bench.folder(), [`${folder}/${path}`, "ls", "/build"]),
          "env-vars\nsource\n",
        );
    },
  );

  test.each([
    ["exit 42", 42],
    ["kill -KILL $$; exit 3", 3],
    ["exit 0", 0],
    ["(kill -ABRT $BASHPID)", 134],
  ])("%s: the exit status is %d", async (text, code) => {
    const result = await script(text);
    expect([result.stdout, result.code]).toEqual(["", code]);
  });

  test("a command that is not there is 127", async () => {
    expect((await run("no-such-command")).code).toBe(127);
  });

  test("the environment is env-vars', and nothing of the caller's", async () => {
    const text =
      'env | while IFS= read -r line; do case $line in TMPDIR=*|SECRET=*|HOME=*|NIX_BUILD_TOP=*|name=*) echo "$line";; esac; done';
    const args = [build.kept(), "bash", "-c", text];
    const result = await enter(bench, build, bench.folder(), args, { env: { SECRET: "caller's" } });
    expect(result.stdout.trim().split("\n").toSorted()).toEqual([
      "HOME=/homeless-shelter",
      "NIX_BUILD_TOP=/build",
      "TMPDIR=/build",
      "name=sample",
    ]);
  });

  test("SHELL is started as the assignment says, with an empty environment", async () => {
    const [shell, busybox] = ["shell", "busybox"].map((name, n) => `/nix/store/${String(n).repeat(32)}-${name}/bin/sh`);
    const tell = 'for w in "$0" "$@"; do echo "[$w]"; done; tr "\\0" "\\n" </proc/$$/environ; pwd; exit 4';
    const folder = bench.folder({
      "kept/env-vars": `declare -x SHELL="${shell}"\ndeclare -x NAME="not yet"\n`,
      [`store${shell}`]: { executable: `#!${busybox}\n${tell}\n` },
      [`store${busybox}`]: { executable: "" },
      temporary: { directory: true },
    });
    copyFileSync(needs("busybox"), `${folder}/store${busybox}`);
    const args = [applet(bench), "--store", `${folder}/store`, `${folder}/kept`, "cmd", "a b", "", "-x"];
    const { stdout, stderr, code } = await bench.start(args, { env: { TMPDIR: `${folder}/temporary`, A: "b" } }).ended;
    expect(stderr).toBe("");
    const words = ["-c", 'source /build/env-vars; exec "$@"', "--", "cmd", "a b", "", "-x"];
    expect(stdout).toBe(`[${shell}]\n${words.map((word) => `[${word}]\n`).join("")}/build\n`);
    expect(code).toBe(4);
  });

  test("/nix is read-only with what is mounted below it", async () => {
    const mount = bench.caller.root ? ["-m"] : ["-r", "-m"];
    const look = "cat drvs/file; (echo x > drvs/new) 2>/dev/null || echo read-only";
    const mounted = `place=$1/nix/var/log/nix/drvs; mount -t tmpfs -o mode=1777 none "$place" || exit
      echo there > "$place/file"; "$2" --store "$1" "$3" bash -c "cd /nix/var/log/nix; $4"; ls "$place"`;
    const argv = [needs("unshare"), ...mount, "--propagation", "private", "sh", "-c", mounted, "sh"];
    const words = [build.shop().store.root, applet(bench), build.kept(), look];
    const ran = await bench.start([...argv, ...words], { stdin: "", env: { TMPDIR: bench.folder() } }).ended;
    expectSuccess(ran, "there\nread-only\nfile\n");
  });

  test("user namespace: 1000 and 100 are the caller's, setgroups is denied, no other groups", async () => {
    const { uid } = bench.caller;
    const text = "id -u; id -g; id -G; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups";
    const result = await script(text);
    expect(result.stdout.split("\n").map((line) => line.trim().split(/\s+/).join(" "))).toEqual([
      "1000",
      "100",
      "100",
      `1000 ${uid} 1`,
      `100 ${uid} 1`,
      "deny",
      "",
    ]);
  });

  test("uts namespace", async () => {
    expectSuccess(await script("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname"), "localhost\n(none)\n");
  });

  test("network namespace: lo alone, up, with its two addresses", async () => {
    const result = await script(
      'cat /proc/net/if_inet6; echo; while read -r a b; do echo "$a"; done < /proc/net/dev; cat /proc/net/fib_trie',
    );
    expect(result.stdout).toMatch(/^0{31}1 01 80 10 80\s+lo\n\n/);
    expect(result.stdout.match(/^\w+:$/gm)).toEqual(["lo:", "Main:", "Local:"]); // and the two tables of fib_trie
    expect(result.stdout).toMatch(/-- 127\.0\.0\.0\n\s+\/8 host LOCAL/);
  });

  test("mount namespace: exactly these directories", async () => {
    expectSuccess(
      await script("ls -A /; echo; ls -A /bin /etc"),
      "bin\nbuild\ndev\netc\nnix\nproc\ntmp\n\n/bin:\nsh\n\n/etc:\ngroup\nhosts\npasswd\n",
    );
  });

  test("the files of /etc", async () => {
    expectSuccess(
      await script("cat /etc/group; echo =; cat /etc/passwd; echo =; cat /etc/hosts"),
      `root:x:0:
nixbld:!:100:
nogroup:x:65534:
=
root:x:0:0:Nix build user:/build:/noshell
nixbld:x:1000:100:Nix build user:/build:/noshell
nobody:x:65534:65534:Nobody:/:/noshell
=
127.0.0.1 localhost
::1 localhost
`,
    );
  });

  test("the devices of /dev, and nothing else", async () => {
    const kvm = existsSync("/dev/kvm") ? ["kvm"] : [];
    const nodes = ["full", ...kvm, "null", "ptmx", "random", "tty", "urandom", "zero"];
    const names = [...nodes, "fd", "stdin", "stdout", "stderr", "pts", "shm"].toSorted();
    const result = await script(
      `ls -A /dev; for f in ${nodes.join(" ")}; do [ -c /dev/$f ] && [ ! -L /dev/$f ] || echo "bad $f"; done; ` +
        "for f in fd stdin stdout stderr; do ls -l /dev/$f; done; ls -ld /dev/shm /tmp; ls -A /dev/pts; echo x > /dev/null; echo x > /dev/shm/x; cat /dev/shm/x",
    );
    expect(result.stdout.split("\n").slice(0, names.length)).toEqual(names);
    expect(result.stdout).not.toContain("bad");
    expect(result.stdout.match(/-> .*/g)).toEqual([
      "-> /proc/self/fd",
      "-> /proc/self/fd/0",
      "-> /proc/self/fd/1",
      "-> /proc/self/fd/2",
    ]);
    expect(result.stdout.match(/^drwxrwxrwt/gm)?.length).toBe(2);
    expect(result.stdout).toEndWith("ptmx\nx\n");
  });

  test("ptmx opens a terminal of the sandbox's own devpts", async () => {
    expectSuccess(await script("exec 5<>/dev/ptmx; ls /dev/pts"), "0\nptmx\n");
  });

  test("/bin/sh is env-vars' SHELL", async () => {
    expectSuccess(await script('[ "$(< /bin/sh)" = "$(< $SHELL)" ] && /bin/sh -c "echo from sh"'), "from sh\n");
  });

  test("/build is the build, and the caller's to write; it and the copy vanish", async () => {
    const temporary = bench.folder();
    const text =
      "pwd; ls -A; ls -lnd /build; echo changed > source/sample; echo new > new; mkdir d; cat source/sample new";
    const result = await enter(bench, build, temporary, [build.kept(), "bash", "-c", text]);
    expect(result.stdout).toMatch(/^\/build\nenv-vars\nsource\ndrwx\S+ \d+ 1000 100 .*\nchanged\nnew\n$/);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("/nix is read-only, and the daemon's socket is out of reach", async () => {
    const result = await script(
      'for d in /nix /nix/store /nix/var /nix/var/nix /nix/store/*; do (echo > $d/new) 2>/dev/null && echo "wrote $d"; done; ls -A /nix/var/nix/daemon-socket 2>/dev/null; true',
    );
    expectSuccess(result, "");
  });

  // What is there of the sockets' directories, and what is covered then.
  test.each([
    [["daemon-socket", "gc-socket", "db"], "db: x\ndaemon-socket:\ngc-socket:\n"],
    [["daemon-socket", "db"], "db: x\ndaemon-socket:\n"],
    [["gc-socket", "db"], ""],
    [["db"], ""],
  ])("no socket of Nix's is in sight, with %j", async (names, seen) => {
    const shell = `/nix/store/${"1".repeat(32)}-busybox/bin/sh`;
    const state = names.map((name) => [`store/nix/var/nix/${name}/x`, ""] as const);
    const folder = bench.folder({
      "kept/env-vars": `export SHELL="${shell}"\n`,
      [`store${shell}`]: { executable: "" },
      temporary: { directory: true },
      ...Object.fromEntries(state),
    });
    copyFileSync(needs("busybox"), `${folder}/store${shell}`);
    const list = 'cd $d; set -- *; [ -e "$1" ] || set --; echo "$d:${1+ $1}"';
    const look = `cd /nix/var/nix; for d in db daemon-socket gc-socket; do [ ! -d $d ] || (${list}); done`;
    const args = [applet(bench), "--store", `${folder}/store`, `${folder}/kept`, "sh", "-c", look];
    expectSuccess(await bench.start(args, { env: { TMPDIR: `${folder}/temporary` } }).ended, seen);
  });

  test("pid and ipc namespaces: the command is PID 1 and sees itself alone", async () => {
    const result = await script(
      "echo $$; for p in /proc/[0-9]*; do echo ${p#/proc/}; done; cat /proc/sysvipc/shm | { read -r a; cat; }",
    );
    expect(result.stdout.split("\n").slice(0, 2)).toEqual(["1", "1"]);
  });

  test("no capabilities, no new privileges, /proc/sys read-only, no new user namespaces", async () => {
    const result = await script(
      'while read -r k v; do case $k in Cap*|NoNewPrivs:) echo "$k $v";; esac; done < /proc/self/status; ' +
        "for f in kernel/hostname kernel/core_pattern vm/overcommit_memory user/max_user_namespaces; do (echo 1 > /proc/sys/$f) 2>/dev/null && echo wrote $f; done; cat /proc/sys/user/max_user_namespaces",
    );
    const none = "0000000000000000";
    expectSuccess(
      result,
      `CapInh: ${none}\nCapPrm: ${none}\nCapEff: ${none}\nCapBnd: ${none}\nCapAmb: ${none}\nNoNewPrivs: 1\n0\n`,
    );
  });

  test("what /proc tells of the machine is covered by the null device", async () => {
    const paths = ["/proc/keys", "/proc/interrupts", "/proc/timer_list", "/proc/kmsg"].filter((path) =>
      existsSync(path),
    );
    expect(paths).toContain("/proc/interrupts");
    const look = `for path; do [ "$path" -ef /dev/null ] && echo covered; done`;
    expectSuccess(await run("bash", "-c", look, "bash", ...paths), "covered\n".repeat(paths.length));
  });

  test("standard input goes to the command", async () => {
    const argv = [build.kept(), "cat"];
    expectSuccess(await enter(bench, build, bench.folder(), argv, { stdin: "some text" }), "some text");
  });

  test("help, and BUILD_DIR missing", async () => {
    expect((await bench.start([applet(bench), "--help"]).ended).stdout).toContain("BUILD_DIR [COMMAND");
    const result = await bench.start([applet(bench)]).ended;
    expect([result.stdout, result.code]).toEqual(["", 125]);
    expect(result.stderr).toStartWith("nix-build-shell: BUILD_DIR is missing");
  });
});
