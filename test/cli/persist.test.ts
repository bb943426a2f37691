/** Layers that are kept by name: `hutch run --persist`, `layers`, `diff` and `rm`. (Over images: persist-images.test.ts.) */

import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Bench, eachCaller, expectFailure, expectSuccess, needs, type Options } from "./hutch.ts";

const busybox = new Uint8Array(readFileSync(needs("busybox")));
const APPLETS = [
  "true",
  "sh",
  "cat",
  "ls",
  "rm",
  "mkdir",
  "mv",
  "sleep",
  "touch",
  "find",
  "sort",
  "stat",
  "chmod",
  "id",
  "ln",
];

interface Place {
  readonly root: string;
  readonly store: string;
  /** hutch with this store. */
  readonly hutch: (...args: readonly string[]) => ReturnType<Bench["hutch"]>;
  /** A script in the sandbox, in the layer `w` over the root. */
  readonly sh: (script: string, ...options: readonly string[]) => ReturnType<Bench["hutch"]>;
}

/** A root with a shell and some files, and a store that is empty. */
function placeOf(bench: Bench, env: Options["env"] = {}): Place {
  const links = APPLETS.map((name) => [`bin/${name}`, { link: "busybox" }] as const);
  const root = bench.folder({
    "bin/busybox": { executable: busybox },
    ...Object.fromEntries(links),
    proc: { directory: true },
    dev: { directory: true },
    "etc/passwd": "root:x:0:0::/:/bin/sh\n",
    "old/below/file": "text\n",
    "old/file": "one\n",
  });
  const store = bench.folder();
  const hutch = (...args: readonly string[]) => bench.hutch(args, { env: { HUTCH_STORE: store, ...env } });
  const sh = (script: string, ...options: readonly string[]) =>
    hutch("run", "--persist", "w", ...options, root, "sh", "-c", script);
  return { root, store, hutch, sh };
}

/** Nothing of layers that are being made or removed. */
const expectTidy = (store: string) => {
  expect(existsSync(join(store, "sessions")) ? readdirSync(join(store, "sessions")) : []).toEqual([]);
};

eachCaller("a layer that is kept", (bench) => {
  test("has what earlier runs have written, and the root is as it was", async () => {
    const { root, store, hutch, sh } = placeOf(bench);
    const first =
      "echo new > /new; rm -r /old; mkdir /old; echo two > /old/file; mkdir -p /a/b; chmod 750 /; echo ready";
    expectSuccess(await sh(first), "ready\n");
    expectSuccess(
      await sh("cat /new /old/file; ls /old; stat -c %a /; rm /new; echo more >> /old/file"),
      "new\ntwo\nfile\n750\n",
    );
    expectSuccess(await sh("ls -d /new 2>/dev/null; cat /old/file"), "two\nmore\n");
    expect(readFileSync(join(root, "old/file"), "utf8")).toBe("one\n");
    expect(readdirSync(root).toSorted()).toEqual(["bin", "dev", "etc", "old", "proc"]);
    // Without the option nothing of it is there; under another name there is nothing yet.
    expectSuccess(await hutch("run", root, "cat", "/old/file"), "one\n");
    expectSuccess(await hutch("run", "--persist", "x", root, "cat", "/old/file"), "one\n");
    expectTidy(store);
  });

  test("goes on where the program has closed its root to everybody, and with --explain-denials", async () => {
    const { hutch, sh, root } = placeOf(bench);
    for (const mode of ["000", "400", "600"]) expectSuccess(await sh(`chmod ${mode} /; echo ${mode}`), `${mode}\n`);
    expectSuccess(await sh("chmod 755 /; echo opened"), "opened\n");
    const told = await hutch("run", "--explain-denials", "--persist", "w", root, "busybox", "unshare", "-n", "true");
    expect(told.stderr).toContain("hutch: blocked: unshare(CLONE_NEWNET) = EPERM");
  });

  test("rm goes on with the others", async () => {
    const { root, hutch } = placeOf(bench);
    for (const name of ["a", "b"]) expectSuccess(await hutch("run", "--persist", name, root, "true"), "");
    const removed = await hutch("rm", "a", "nope", "b", "nada");
    expect(removed).toMatchObject({ stdout: "a\nb\n", code: 125 });
    expect(removed.stderr).toMatch(/^hutch rm: .*nope.*; .*nada.*\n$/);
    expectSuccess(await hutch("layers", "--format", "json"), "[]\n");
  });

  test("is listed, compared with its root, and removed", async () => {
    const { root, hutch, sh, store } = placeOf(bench);
    expectSuccess(await hutch("layers", "--format", "json"), "[]\n");
    const script = [
      "echo new > /new; rm -r /old/below; echo two > /old/file; mkdir -p /a/b; mv /bin/ln /bin/nl; rm -r /etc; mkdir /etc",
      'touch "/a/x\ny" /a/$(printf "\\377") /a/$(printf "\\302\\233"); ln -s /../../etc /a/link; chmod 700 /dev/..',
    ].join("\n");
    expectSuccess(await sh(script), "");
    const changes = [
      ["A", "/a"],
      ["A", "/a/b"],
      ["A", "/a/link"],
      ["A", "/a/x\ny"],
      ["A", "/a/\u009b"],
      ["A", "/a/\udcff"],
      ["C", "/bin"],
      ["D", "/bin/ln"],
      ["A", "/bin/nl"],
      ["C", "/etc"],
      ["D", "/etc/passwd"],
      ["A", "/new"],
      ["C", "/old"],
      ["D", "/old/below"],
      ["C", "/old/file"],
    ];
    const text = changes.map(([kind, path]) => `${kind} ${path}\n`).join("");
    expectSuccess(
      await hutch("diff", "w"),
      text.replace("x\ny", "x\\ny").replace("\udcff", "\\xff").replace("\u009b", "\\x9b"),
    );
    const json = await hutch("diff", "w", "--format", "json");
    expect(json.stdout).not.toContain("\u009b");
    expect(JSON.parse(json.stdout)).toEqual(changes.map(([kind, path]) => ({ kind, path })));
    expectSuccess(await hutch("layers"), new RegExp(`^NAME +ROOT +CREATED +IN USE BY\nw +directory ${root} +.*ago\n$`));
    const [listed, ...others] = JSON.parse((await hutch("layers", "--format", "json")).stdout) as object[];
    expect(others).toEqual([]);
    expect(listed).toMatchObject({ name: "w", root: { kind: "directory", path: root }, inUse: false, pid: null });
    expectSuccess(await hutch("rm", "w"), "w\n");
    expectSuccess(await hutch("layers", "--format", "json"), "[]\n");
    for (const words of [
      ["diff", "w"],
      ["rm", "w"],
    ])
      expectFailure(await hutch(...words), 125, "there is no layer w", "hutch layers");
    expectSuccess(await sh("ls /etc"), "passwd\n");
    expectTidy(store);
  });

  test.each([1, 2, 3])(
    "after any changes the listing is what a search shows to be new and gone (seed %d)",
    async (seed) => {
      const { sh, hutch } = placeOf(bench);
      const search = "find /old /etc /a 2>/dev/null | sort";
      const before = (await sh(search)).stdout.trimEnd().split("\n");
      let random = seed;
      const choose = <Value>(list: readonly Value[]): Value => {
        random = (random * 1103515245 + 12345) % 2 ** 31;
        return list[Math.floor((random / 2 ** 31) * list.length)] as Value;
      };
      const path = () =>
        `${choose(["/old", "/etc", "/a"])}/${choose(["below", "file", "x"])}${choose(["", "/file", "/y"])}`;
      const steps = Array.from({ length: 80 }, () => {
        const [one, other] = [path(), path()];
        const top = one.slice(0, one.indexOf("/", 1));
        const ways = [
          `mkdir -p ${one}`,
          `echo new > ${one}`,
          `rm -rf ${one}`,
          `mv ${one} ${other}`,
          `rm -rf ${top}; mkdir ${top}`,
        ];
        return choose(ways);
      });
      for (const half of [steps.slice(0, 40), steps.slice(40)])
        expect((await sh(`exec 2>/dev/null; ${half.join("; ")}; exit 0`)).code).toBe(0);
      const after = (await sh(search)).stdout.trimEnd().split("\n");
      const directories = (await sh("find / -xdev -type d")).stdout.trimEnd().split("\n");
      const parentOf = (name: string) => name.slice(0, name.lastIndexOf("/")) || "/";
      const isAround = (name: string) => directories.includes(parentOf(name));
      const listed = (await hutch("diff", "w")).stdout.split("\n").filter((line) => /^[AD]/.test(line));
      expect(listed).toEqual(
        [
          ...after.filter((name) => !before.includes(name)).map((name) => `A ${name}`),
          ...before.filter((name) => !after.includes(name) && isAround(name)).map((name) => `D ${name}`),
        ].toSorted((a, b) => (a.slice(2).split("/") < b.slice(2).split("/") ? -1 : 1)),
      );
    },
  );

  test("belongs to one root, whichever way that is written", async () => {
    const { root, sh, hutch } = placeOf(bench);
    const other = placeOf(bench).root;
    const link = bench.folder({ there: { link: root } });
    expectSuccess(await sh("echo one > /new"), "");
    expectSuccess(await hutch("run", "--persist", "w", `${link}/./there`, "cat", "/new"), "one\n");
    for (const command of ["run", "plan"])
      expectFailure(
        await hutch(command, "--persist", "w", other, "cat", "/new"),
        125,
        `layer w is over directory ${root}, not over directory ${other}`,
        "hutch rm w",
      );
  });

  test("is one sandbox's at a time, also when that has been killed and is only ending", async () => {
    const { sh, hutch, root, store } = placeOf(bench);
    const env = { HUTCH_STORE: store };
    const words = [bench.binary, "run", "--persist", "w", root, "sh", "-c"];
    const running = bench.start([...words, "echo one > /new; echo ready; while :; do sleep 1; done"], { env });
    await running.says("ready\n");
    const refused = [`layer w is in use by another sandbox (its hutch is process ${running.pid})`, "from --persist w"];
    expectFailure(await sh("cat /new"), 125, ...refused);
    expectFailure(await hutch("rm", "w"), 125, refused[0] ?? "");
    expect(JSON.parse((await hutch("layers", "--format", "json")).stdout)).toMatchObject([
      { name: "w", inUse: true, pid: running.pid },
    ]);
    expectSuccess(await hutch("diff", "w"), "A /new\n");
    running.kill("SIGKILL");
    await running.ended;
    expectSuccess(await sh("cat /new"), "one\n");
  });

  test("many that begin, go on and are removed at once are one at a time", async () => {
    const { sh, hutch, store } = placeOf(bench);
    const script = "mkdir /busy || echo clash; sleep 0.02; rm -r /busy; echo ran";
    const results = await Promise.all(
      Array.from({ length: 6 }, async () => {
        const runs = [await sh(script), await sh(script)];
        await hutch("rm", "w");
        return [...runs, await sh(script)];
      }),
    );
    let ran = 0;
    for (const { stdout, stderr, code } of results.flat()) {
      if (code === 0) ran += 1;
      expect({ stdout, stderr }).toEqual(
        code === 0
          ? { stdout: "ran\n", stderr: "" }
          : { stdout: "", stderr: expect.stringMatching(/layer w (is in use|was made and removed meanwhile)/) },
      );
    }
    expect(ran).toBeGreaterThan(0);
    expectTidy(store);
  });

  test("a root whose path is not UTF-8 is the same root again", async () => {
    const { root, store } = placeOf(bench);
    const script = `cd "$2"; name=$(printf 'x\\377'); mkdir "$name"; cp -a "$1"/* "$name"
      for i in 1 2; do "$HUTCH" run --persist w "./$name" sh -c 'ls /new; echo > /new' 2>&1; done
      "$HUTCH" diff w; rm -r "$name"; "$HUTCH" diff w 2>&1; "$HUTCH" rm w`;
    const { stdout } = await bench.shell(script, [root, bench.folder()], { env: { HUTCH_STORE: store } });
    expect(stdout).toContain("/new: No such file or directory\n/new\nA /new\n");
    expect(stdout).toContain("x\\xff, which layer w is over, is not there");
    expect(stdout).toEndWith("w\n");
  });

  test("whoever still has its file system keeps others away, until it lets go", async () => {
    const { sh, root, store } = placeOf(bench);
    const env = { HUTCH_STORE: store };
    const words = [bench.binary, "run", "--persist", "w", "--no-init", root, "sh", "-c"];
    const running = bench.start([...words, "echo one > /new; echo ready; exec sleep 1000"], { env });
    await running.says("ready\n");
    const child = readFileSync(`/proc/${running.pid}/task/${running.pid}/children`, "utf8").trim().split(" ").at(-1);
    // A process outside, whose working directory is in the sandbox's root.
    const outside = bench.start(["sh", "-c", 'cd "/proc/$1/root/bin" && echo there && read line', "sh", child ?? ""]);
    await outside.says("there\n");
    running.kill("SIGKILL");
    await running.ended;
    const next = bench.start([...words, "cat /new"], { env });
    const first = await Promise.race([next.ended, Bun.sleep(2500)]);
    expect(first).toBeUndefined();
    outside.write("\n");
    await outside.ended;
    expectSuccess(await next.ended, "one\n");
    expectSuccess(await sh("cat /new"), "one\n");
  });

  test("SIGKILL at any instant loses nothing of what was said to be there", async () => {
    const { sh, root, store, hutch } = placeOf(bench);
    const env = { HUTCH_STORE: store };
    const script = `i=$(cat /count 2>/dev/null || echo 0)
      while :; do i=$((i+1)); echo $i > /next; mv /next /count; rm -rf /old; mkdir /old; echo $i > /old/file; echo $i; done`;
    const words = [bench.binary, "run", "--persist", "w", root, "sh", "-c", script];
    let count = 0;
    for (const milliseconds of [5, 15, 25, 35, 50, 70, 100, 150, 250]) {
      const running = bench.start(words, { env });
      await Bun.sleep(milliseconds);
      running.kill("SIGKILL");
      const said = Number((await running.ended).stdout.split("\n").at(-2) ?? count);
      const { stdout, stderr, code } = await sh("cat /count 2>/dev/null || echo 0");
      expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
      count = Number(stdout);
      expect(count).toBeGreaterThanOrEqual(said);
    }
    expect(count).toBeGreaterThan(0);
    expect((await hutch("diff", "w")).stdout).toStartWith("A /count\n");
    expectSuccess(await hutch("rm", "w"), "w\n");
    expectTidy(store);
  });

  test("a start that fails leaves what was there; one that fails before anything has started leaves no new layer", async () => {
    const { sh, root, hutch, store } = placeOf(bench, { XDG_RUNTIME_DIR: bench.folder({ hutch: "no directory" }) });
    expectFailure(await hutch("run", "--persist", "w", "--name", "x", root, "true"), 125, "hutch");
    expectSuccess(await hutch("layers", "--format", "json"), "[]\n");
    expectTidy(store);
    expectSuccess(await sh("echo one > /new"), "");
    expect((await hutch("run", "--persist", "w", root, "/none")).code).toBe(127);
    expect((await hutch("run", "--persist", "w", "--name", "x", root, "true")).code).toBe(125);
    expectSuccess(await sh("cat /new"), "one\n");
  });

  test.each([
    [["--read-only"], "--persist and --read-only contradict each other"],
    [["--writable"], "--persist and --writable contradict each other"],
    [["--rm"], "--persist and --rm contradict each other"],
    [["--persist", "../x"], '"../x" is not a name'],
  ])("%j is refused with one line", async (words, line) => {
    const { root, hutch, store } = placeOf(bench);
    expectFailure(await hutch("run", "--persist", "w", ...words, root, "true"), 125, line, "--persist");
    expectFailure(await hutch("run", "--persist", "w", "scratch", "true"), 125, "scratch is empty", "--persist w");
    expect(existsSync(join(store, "persisted/w"))).toBe(false);
  });

  test("a root that holds the store, and a store that can hold no layer, are refused with one line", async () => {
    const { root, hutch } = placeOf(bench);
    const inside = await bench.hutch(["run", "--persist", "w", root, "true"], {
      env: { HUTCH_STORE: `${root}/store` },
    });
    expectFailure(inside, 125, `${root} holds the store ${root}/store`, "HUTCH_STORE");
    const memory = (await bench.shell("mktemp -d /dev/shm/hutch-test-XXXXXX")).stdout.trim();
    try {
      const refused = await bench.hutch(["run", "--persist", "w", root, "true"], { env: { HUTCH_STORE: memory } });
      expectFailure(refused, 125, `the file system of ${memory} cannot hold`, "--persist w", "ext4");
    } finally {
      await bench.shell('exec rm -rf --one-file-system "$1"', [memory]);
    }
    expectFailure(await hutch("diff", "w"), 125, "there is no layer w");
    expectFailure(await hutch("start", "w"), 125, "unknown command start", "hutch run --persist NAME");
  });

  test("goes with --name, --json and --user, and a plan says what is kept and makes nothing", async () => {
    const { root, sh, hutch, store } = placeOf(bench, { XDG_RUNTIME_DIR: bench.folder() });
    const planned = await hutch("plan", "--persist", "w", root, "true");
    expect(planned.stdout).toContain(`${store}/persisted/w/disk as disk`);
    expect(planned.stdout).toContain("(userxattr,index=on), writes on disk, which is kept");
    expect(existsSync(join(store, "persisted"))).toBe(false);
    const folder = bench.folder();
    expectSuccess(
      await sh("echo ada:x:0:0::/home:/bin/sh >> /etc/passwd", "--name", "x", "--json", `${folder}/end`),
      "",
    );
    expect(JSON.parse(readFileSync(`${folder}/end`, "utf8"))).toMatchObject({ exitCode: 0 });
    // Names are looked up in the layer, too.
    expectSuccess(await sh("echo $HOME", "--user", "ada"), "/home\n");
  });

  test("before Linux 6.7, by mount(2), it is the same", async () => {
    const { root, store } = placeOf(bench);
    const env = { HUTCH_STORE: store };
    const run = (script: string) =>
      bench.shell('exec setarch --uname-2.6 "$HUTCH" run --persist w "$1" sh -c "$2"', [root, script], { env });
    if (bench.caller.root) {
      expectFailure(await run("true"), 125, "root can have no overlay before Linux 5.19", "--persist w");
      return; // what it may pretend is older than that
    }
    expectSuccess(await run("rm -r /old; mkdir /old; echo one > /old/new"), "");
    expectSuccess(await run("cat /old/new; ls /old"), "one\nnew\n");
    expectTidy(store);
  });

  test("a record that is damaged is told, stops what it must, and the layer can be removed", async () => {
    const { sh, hutch, store } = placeOf(bench);
    expectSuccess(await sh("echo one > /new"), "");
    for (const text of [
      "",
      "{",
      '{"format":1}',
      '{"format":1,"ids":"","created":"","root":{"kind":"image","name":"x"}}',
    ]) {
      writeFileSync(join(store, "persisted/w/layer.json"), text);
      expectFailure(await sh("cat /new"), 125, "no record of this hutch's", "hutch rm w");
    }
    const listed = await hutch("layers");
    expect(listed.stderr).toMatch(/^hutch layers: warning: .*hutch rm w/);
    expect(listed.code).toBe(125);
    expectSuccess(await hutch("prune"), /^freed /);
    expectSuccess(await hutch("rm", "w"), "w\n");
  });
});
