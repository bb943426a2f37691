/** hutch login and logout, on the built binary against docker-registry with passwords, and as a person at a terminal. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { requireTools, type Server, startDockerRegistry } from "../image/helpers/docker-registry.ts";
import { imageOf, layerOf, writeLayout } from "../image/helpers/layout.ts";
import { removeScratch, run, scratch } from "../image/helpers/stack.ts";
import { file, tar } from "../image/tar-maker.ts";
import { findDescendant, isAlive, until } from "./host-processes.ts";
import { eachCaller, expectFailure, expectSuccess, needs } from "./hutch.ts";
import { CONTROL, openTerminal } from "./terminal.ts";

const image = imageOf([layerOf(tar(file("motd", "hello")))]);
let server: Server;
let host = "";

beforeAll(async () => {
  requireTools("docker-registry", "htpasswd", "skopeo");
  const work = scratch();
  writeFileSync(`${work}/htpasswd`, await run(["htpasswd", "-Bbn", "-C", "4", "bob", "secret"], work));
  server = await startDockerRegistry(work, { top: `auth: {htpasswd: {realm: basic, path: ${work}/htpasswd}}\n` });
  ({ host } = server);
  writeLayout(`${work}/layout`, image);
  const to = [
    "--dest-tls-verify=false",
    "--dest-creds=bob:secret",
    `oci:${work}/layout:latest`,
    `docker://${host}/box:1`,
  ];
  await run(["skopeo", "copy", "-q", ...to], work);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await removeScratch();
});

eachCaller("login", (bench) => {
  /** A place with a file for credentials, and the ways to use it. */
  function place() {
    const folder = bench.folder({ run: { directory: true } });
    const kept = `${folder}/run/containers/auth.json`;
    const env = { HUTCH_STORE: `${folder}/store`, HOME: folder, XDG_RUNTIME_DIR: `${folder}/run` };
    const hutch = (...args: string[]) => bench.hutch(args, { env });
    const login = (stdin: string, ...args: string[]) =>
      bench.hutch(["login", "-u", "bob", "--password-stdin", ...args], { env, stdin });
    return { folder, kept, env, hutch, login };
  }

  test("what was logged in to is pulled from, by podman's file too, until it is logged out", async () => {
    const { kept, hutch, login, env } = place();
    const pull = () => hutch("pull", `${host}/box:1`);
    expectFailure(await pull(), 125, "401", "hutch login");
    for (const end of ["", "\n", "\r\n"])
      expectSuccess(await login(`secret${end}`, host), `${host}: logged in as bob (${kept})\n`);
    expect(JSON.parse(readFileSync(kept, "utf8"))).toEqual({
      auths: { [host]: { auth: Buffer.from("bob:secret").toString("base64") } },
    });
    expect([statSync(kept).mode & 0o777, statSync(kept).uid]).toEqual([0o600, bench.caller.uid]);
    expect((await pull()).code).toBe(0);
    const skopeo = `${needs("skopeo")} inspect --tls-verify=false --format '{{.Digest}}' "docker://$1/box:1"`;
    expectSuccess(await bench.shell(skopeo, [host], { env }), `${image.manifest.digest}\n`);
    expectSuccess(await hutch("logout", host), `${host}: logged out (${kept})\n`);
    expectFailure(await pull(), 125, "401");
    expectFailure(await hutch("logout", host), 125, `not logged in to ${host}`);
    expectSuccess(
      await bench.shell(`echo secret | skopeo login --tls-verify=false -u bob --password-stdin "$1"`, [host], { env }),
      /Succeeded/,
    );
    expectSuccess(await hutch("logout", "--all"), `${host}: logged out (${kept})\n`);
    expectSuccess(await hutch("logout", "-a"), "");
    // A file that cannot be changed keeps nobody from the others, and is told of.
    const { folder, env: own } = place();
    const config = `${folder}/.docker/config.json`;
    const line = `echo secret | "$HUTCH" login -u bob --password-stdin "$1" && mkdir "$2/.docker" && cp "$3" "$2/.docker/config.json" && mkdir "$2/.docker/config.json.hutch"`;
    expectSuccess(await bench.shell(line, [host, folder, `${folder}/run/containers/auth.json`], { env: own }), /./);
    const partly = await bench.hutch(["logout", "--all"], { env: own });
    expect(partly.stdout).toBe(`${host}: logged out (${folder}/run/containers/auth.json)\n`);
    expect(partly.stderr).toMatch(/^hutch logout: remove \S+config\.json\.hutch: EISDIR [^;]+\n$/);
    expect(partly.code).toBe(125);
    expect(readFileSync(config, "utf8")).toContain(host);
  });

  test("a wrong password changes nothing, and bad words are one line without a password", async () => {
    const { folder, kept, env, hutch, login } = place();
    expectFailure(
      await login("hunter2", host),
      125,
      `${host}: 401 Unauthorized (UNAUTHORIZED: authentication required)`,
      "check the",
    );
    expect(existsSync(kept)).toBe(false);
    expect(readdirSync(folder)).toEqual(["run"]);
    const bad: readonly (readonly [readonly string[], string])[] = [
      [["-u", "bob", host], "standard input is not a terminal"],
      [["--password-stdin", host], "--password-stdin needs --username"],
      [["-u", "bob", "-phunter2", host], "a password on the command line is refused"],
      [["-u", "bob", "--password=hunter2", host], "--password-stdin"],
      [["-u", "bob", "--password-stdin", host, "hunter2"], "more than one REGISTRY"],
      [["-u", "bob", "--password-stdin", "https://bob:hunter2@x.test"], "invalid registry"],
      [["-u", "b:ob", "--password-stdin", host], "no colon"],
      [["-u", "", "--password-stdin", host], "the user name is empty"],
      [["-u", "bob", "--password-stdin", "alpine"], "Docker Hub's"],
    ];
    for (const [args, words] of bad) {
      const refused = await hutch("login", ...args);
      expectFailure(refused, 125, words);
      expect(refused.stderr).not.toContain("hunter2");
    }
    expectFailure(await login("", host), 125, "the password is empty");
    expectFailure(await login("a\0b", host), 125, "a NUL byte in the password");
    expectFailure(await login("x".repeat(70_000), host), 125, "more than 65536 bytes");
    expectFailure(
      await bench.shell('"$HUTCH" login -u bob --password-stdin x.test <&-', [], { env }),
      125,
      "standard input is closed",
    );
    expectFailure(
      await bench.shell('printf "\\377" | "$HUTCH" login -u bob --password-stdin "$1"', [host], { env }),
      125,
      "not UTF-8",
    );
    expectFailure(await login("secret", "127.0.0.1:1"), 125, "127.0.0.1:1: connection refused");
    expectFailure(await hutch("logout", "a.test", "b.test"), 125, "unexpected b.test");
    expectFailure(await hutch("logout", "--all", "a.test"), 125, "a.test is one of all");
    expect(readdirSync(folder)).toEqual(["run"]);
  });

  test("no place of the caller's own, and files that cannot be used, before a password is read", async () => {
    const { folder, kept, env } = place();
    const args = ["login", "-u", "bob", "--password-stdin", host];
    if (!bench.caller.root) {
      const nowhere = await bench.hutch(args, { env: { HOME: "/", XDG_RUNTIME_DIR: "/run" }, stdin: "secret" });
      expectFailure(nowhere, 125, "no place of your own for credentials", "REGISTRY_AUTH_FILE names one");
    }
    const words = { REGISTRY_AUTH_FILE: `${folder}/none/x/auth.json` };
    expectSuccess(
      await bench.hutch(args, { env: words, stdin: "secret" }),
      `${host}: logged in as bob (${folder}/none/x/auth.json)\n`,
    );
    await bench.shell('mkdir -p "${1%/*}" && echo "{" >"$1"', [kept]);
    expectFailure(await bench.hutch(args, { env, stdin: "secret" }), 125, `${kept}: not JSON`);
    const device = await bench.hutch(args, { env: { REGISTRY_AUTH_FILE: "/dev/null" }, stdin: "secret" });
    expect(device.code).toBe(125);
    const proc = await bench.hutch(args, { env: { REGISTRY_AUTH_FILE: "/proc/x/auth.json" }, stdin: "secret" });
    expectFailure(proc, 125, "/proc/x", "ENOENT");
  });

  test.each(["signal=KILL", "error=EIO", "error=ENOSPC"])(
    "the file is the old or the new one with %s anywhere",
    async (fault) => {
      const { folder, kept, env, login } = place();
      const words = '{"x": 1.0, "auths": {"other.test": {"auth": "YTpi"}}}';
      expectSuccess(await login("secret", host), /./); // the file is the caller's, and stays that
      let hits = 0;
      for (const call of ["renameat2", "fsync", "write", "flock"]) {
        for (let when = 1; ; when += 1) {
          writeFileSync(kept, words);
          const only = call === "write" ? `-P ${kept}.hutch ` : ""; // Bun writes too, to itself
          const inject = `${only}-e trace=${call} -e inject=${call}:${fault}:when=${when}`;
          const line = `echo secret | strace -f -qq -o /dev/null ${inject} "$HUTCH" login -u bob --password-stdin "$1"; echo "code $?"`;
          const hit = await bench.shell(line, [host], { env });
          if (hit.stdout.endsWith("code 0\n")) break;
          hits += 1;
          const at = `${call} ${when}`;
          expect(hit.stdout, at).toContain(`code ${fault === "signal=KILL" ? 137 : 125}\n`);
          const after = readFileSync(kept, "utf8");
          const whole = words.replace("}}}", `}, "${host}": {"auth":"Ym9iOnNlY3JldA=="}}}`);
          if (after !== words) expect(JSON.parse(after), at).toEqual(JSON.parse(whole));
          if (fault !== "signal=KILL") expect(readdirSync(`${folder}/run/containers`), at).toEqual(["auth.json"]);
        }
      }
      expect(hits).toBe(5);
      expectSuccess(await login("secret", host), /./);
      expect(readdirSync(`${folder}/run/containers`)).toEqual(["auth.json"]);
    },
  );

  test("at a terminal the password is asked for and not shown, and the settings come back on every way out", async () => {
    const { folder, kept, env } = place();
    const terminal = await openTerminal(bench, env);
    const { type, shows } = terminal;
    type(`stty -g >${folder}/before\n`);
    await shows("shell> ");
    const asks = async () => {
      type(`$HUTCH login ${host}\n`);
      await shows(`User name for ${host}: `);
      type("bob\n");
      await shows("Password of bob: ");
    };
    const settled = async (status: number) => {
      type(`echo "<$?>"; stty -g | cmp - ${folder}/before && echo sa''me\n`);
      await shows(`<${status}>`);
      await shows("same");
      await shows("shell> ");
    };
    await asks();
    type("secret\n");
    await shows(`${host}: logged in as bob (${kept})`);
    await shows("shell> ");
    await settled(0);
    expect(terminal.screen()).not.toContain("secret");
    for (const [key, status] of [
      [CONTROL.c, 130],
      [CONTROL.backslash, 131],
      [CONTROL.d, 125],
    ] as const) {
      await asks();
      type(key);
      await shows("shell> ");
      await settled(status);
    }
    for (const [signal, status] of [
      ["SIGTERM", 143],
      ["SIGHUP", 129],
    ] as const) {
      await asks();
      process.kill(await findDescendant(terminal.pid, `${bench.binary} login ${host}`), signal);
      await shows("shell> ");
      await settled(status);
    }
    type("trap '' HUP\n"); // what the caller ignores is ignored
    await shows("shell> ");
    await asks();
    process.kill(await findDescendant(terminal.pid, `${bench.binary} login ${host}`), "SIGHUP");
    type("secret\n");
    await shows("logged in as bob");
    await shows("shell> ");
    await settled(0);
    type("trap - HUP\n");
    await shows("shell> ");
    await asks();
    type(CONTROL.z);
    await shows("Stopped");
    await shows("shell> ");
    await settled(148);
    type("fg\n");
    await shows("Password of bob: ");
    type("secret\n");
    await shows("logged in as bob");
    await shows("shell> ");
    await settled(0);
    expect(terminal.screen()).not.toContain("secret");
    await asks();
    const asking = await findDescendant(terminal.pid, `${bench.binary} login ${host}`);
    terminal.close(); // a hang-up
    await until("the end of who asks", () => !isAlive(asking));
    await terminal.ended;
  });
});
