import { expect, test } from "bun:test";
import {
  type ConfigOverrides,
  DEFAULT_PATH,
  mergeEnv,
  mergeImageConfig,
  parseImageConfig,
  type ProcessConfig,
  withHome,
} from "../../src/image/config.ts";
import { digestOf } from "../../src/image/digest.ts";
import { canonicalSignal, signalNumber } from "../../src/libc/signal.ts";
import { resolveUser } from "../../src/image/user.ts";

const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** Image, user's words, argv: as moby's daemon/commit.go merges. */
const argv: readonly (readonly [string, ProcessConfig, ConfigOverrides, readonly string[]])[] = [
  ["Cmd alone", { Cmd: ["a", "b"] }, {}, ["a", "b"]],
  ["Entrypoint alone", { Entrypoint: ["e"] }, {}, ["e"]],
  ["both", { Entrypoint: ["e"], Cmd: ["a"] }, {}, ["e", "a"]],
  ["command replaces Cmd", { Cmd: ["a"] }, { command: ["x", "-y"] }, ["x", "-y"]],
  ["command keeps Entrypoint", { Entrypoint: ["e"], Cmd: ["a"] }, { command: ["x"] }, ["e", "x"]],
  ["entrypoint drops Cmd", { Entrypoint: ["e"], Cmd: ["a"] }, { entrypoint: "mine" }, ["mine"]],
  ["entrypoint with command", { Entrypoint: ["e"], Cmd: ["a"] }, { entrypoint: "mine", command: ["x"] }, ["mine", "x"]],
  ["empty entrypoint with command", { Entrypoint: ["e"], Cmd: ["a"] }, { entrypoint: "", command: ["x"] }, ["x"]],
  ["empty entrypoint alone in a list", { Cmd: ["a"] }, { entrypoint: [""], command: ["x"] }, ["x"]],
  ["empty list keeps Cmd", { Entrypoint: ["e"], Cmd: ["a"] }, { entrypoint: [] }, ["a"]],
  ["entrypoint as a list", { Cmd: ["a"] }, { entrypoint: ["m", "n"] }, ["m", "n"]],
  ["empty command is none", { Cmd: ["a"] }, { command: [] }, ["a"]],
];
test.each(argv)("argv: %s", (_, config, overrides, expected) => {
  expect(mergeImageConfig(config, overrides).args).toEqual([...expected]);
});

test("no command is an error, also after an empty entrypoint, which drops the image's Cmd as docker's does", () => {
  const refusal = (...args: Parameters<typeof mergeImageConfig>): unknown => {
    try {
      return mergeImageConfig(...args);
    } catch (error) {
      return error;
    }
  };
  const message = "no command specified";
  const none = "the image names none either: write it after the image";
  const dropped = "--entrypoint drops the image's command too: write it after the image";
  expect(refusal({})).toMatchObject({ message, hint: none });
  expect(refusal({}, { entrypoint: "" })).toMatchObject({ message, hint: none });
  expect(refusal({ Cmd: ["a"] }, { entrypoint: "" })).toMatchObject({ message, hint: dropped });
  expect(refusal({ Entrypoint: ["e"], Cmd: ["a"] }, { entrypoint: "" })).toMatchObject({ message, hint: dropped });
});

test("environment: defaults, image, user, each name once; HOME last", () => {
  const config = { Cmd: ["x"], Env: ["A=1", "PATH=/image", "B=2", "novalue", "=odd"] };
  const { env } = mergeImageConfig(config, { env: ["A=3", "B", "C="], hostname: "h", terminal: true });
  expect(env).toEqual(["PATH=/image", "HOSTNAME=h", "TERM=xterm", "A=3", "C="]);
  expect(mergeImageConfig({ Cmd: ["x"] }).env).toEqual([`PATH=${DEFAULT_PATH}`, "HOSTNAME="]);
  expect(withHome(env, "/root").at(-1)).toBe("HOME=/root");
  expect(withHome(["HOME=/image"], "/root")).toEqual(["HOME=/image"]);
  expect(withHome([], "")).toEqual(["HOME=/"]);
  expect(mergeEnv(["A=1"], ["A=2"], ["A"])).toEqual([]);
});

test("working directory, user and stop signal", () => {
  const config = { Cmd: ["x"], WorkingDir: "/w", User: "u", StopSignal: "QUIT" };
  expect(mergeImageConfig(config)).toMatchObject({ cwd: "/w", user: "u", stopSignal: "SIGQUIT" });
  expect(mergeImageConfig(config, { cwd: "/v", user: "1:2", stopSignal: "9" })).toMatchObject({
    cwd: "/v",
    user: "1:2",
    stopSignal: "SIGKILL",
  });
  expect(mergeImageConfig({ Cmd: ["x"], WorkingDir: "" })).toMatchObject({ cwd: "/", user: "", stopSignal: "SIGTERM" });
  expect(() => mergeImageConfig({ Cmd: ["x"], WorkingDir: "w" })).toThrow("not absolute");
  expect(mergeImageConfig({ Cmd: ["x"], WorkingDir: "w" }, { cwd: "/y" }).cwd).toBe("/y");
});

test.each([
  ["TERM", 15],
  ["sigkill", 9],
  ["15", 15],
  ["SIGRTMIN", 34],
  ["RTMIN+3", 37],
  ["SIGRTMAX-1", 63],
  ["SIGIOT", 6],
] as const)("signal %s is %i", (text, number) => {
  expect(signalNumber(text)).toBe(number);
  expect(signalNumber(canonicalSignal(text))).toBe(number);
});
test.each(["", "SIGNOPE", "0", "65", "SIGRTMAX+1", "-9", "1e1"])("no signal %j", (text) => {
  expect(() => signalNumber(text)).toThrow("unknown signal");
});

const passwd =
  "root:x:0:0:root:/root:/bin/sh\n# comment\n\nbob:x:1000:1001::/home/bob:/bin/sh\nbob:x:7:7::/second:\nshort\nweb:x:33:33::/var/www:\n";
const group = "root:x:0:root\nbob:x:1001:\naudio:x:29:bob,web\nvideo:x:44:bob\naudio:x:5:\nshort\n";

/** USER, uid, gid, supplementary groups, home: as moby/sys/user's GetExecUser. */
const users: readonly (readonly [string, number, number, readonly number[], string])[] = [
  ["", 0, 0, [0], "/root"],
  ["bob", 1000, 1001, [29, 44], "/home/bob"],
  ["1000", 1000, 1001, [29, 44], "/home/bob"],
  ["web", 33, 33, [29], "/var/www"],
  ["4242", 4242, 0, [], "/"],
  ["bob:audio", 1000, 29, [], "/home/bob"],
  ["bob:7", 1000, 7, [], "/home/bob"],
  ["4242:video", 4242, 44, [], "/"],
  ["4242:4343", 4242, 4343, [], "/"],
  [":audio", 0, 29, [], "/root"],
  ["2147483647", 2147483647, 0, [], "/"],
];
test.each(users)("user %j", (spec, uid, gid, groups, home) => {
  expect(resolveUser(spec, passwd, group)).toEqual({ uid, gid, groups: [...groups], home });
});
test.each([
  ["nobody", /unknown user/],
  ["bob:nogroup", /unknown group/],
  ["2147483648", /not in 0\.\./],
  ["-1", /not in 0\.\./],
  ["1:99999999999", /not in 0\.\./],
] as const)("user %s is refused", (spec, message) => {
  expect(() => resolveUser(spec, passwd, group)).toThrow(message);
});
test("an image without passwd knows numbers and root only", () => {
  expect(resolveUser("", "", "")).toEqual({ uid: 0, gid: 0, groups: [], home: "/" });
  expect(() => resolveUser("root", "", "")).toThrow("unknown user");
});

const rootfs = { type: "layers", diff_ids: [digestOf("x")] };
/** After image-spec's schema tests of config.json. */
const badConfigs: readonly (readonly [string, unknown, RegExp])[] = [
  ["no rootfs", { os: "linux", architecture: "amd64" }, /rootfs/],
  ["rootfs of another type", { rootfs: { type: "base", diff_ids: [] } }, /rootfs.type/],
  ["a DiffID that is none", { rootfs: { type: "layers", diff_ids: ["x"] } }, /invalid digest/],
  ["os a number", { os: 1, rootfs }, /os: must be a string/],
  ["variant a number", { variant: 1, rootfs }, /variant: must be a string/],
  ["Env a string", { rootfs, config: { Env: "A=1" } }, /Env: must be an array/],
  ["Env of numbers", { rootfs, config: { Env: [7353] } }, /Env\[0\]: must be a string/],
  ["User a number", { rootfs, config: { User: 1234 } }, /User: must be a string/],
  ["Entrypoint a string", { rootfs, config: { Entrypoint: "sh" } }, /Entrypoint: must be an array/],
  ["Volumes a list", { rootfs, config: { Volumes: ["/x"] } }, /Volumes: must be an object/],
  ["history a string", { rootfs, history: "x" }, /history: must be an array/],
  ["NUL in Cmd", { rootfs, config: { Cmd: ["a\0b"] } }, /NUL/],
  ["an array", [], /must be an object/],
];
test.each(badConfigs)("config with %s is refused", (_, value, message) => {
  expect(() => parseImageConfig(encode(value), "config")).toThrow(message);
});

test("a config with nulls reads as one without", () => {
  const config = parseImageConfig(
    encode({ rootfs, config: { Env: null, Cmd: null, Entrypoint: null, Volumes: { "/v": {} } }, history: null }),
    "config",
  );
  expect(config.config).toEqual({ Volumes: ["/v"] });
  expect(parseImageConfig(encode({ rootfs, config: null }), "config").config).toEqual({});
});

test("a lone surrogate in JSON cannot become a raw byte", () => {
  const config = parseImageConfig(
    new TextEncoder().encode(`{"rootfs":${JSON.stringify(rootfs)},"config":{"Cmd":["\\udcff"]}}`),
    "config",
  );
  expect(config.config.Cmd).toEqual(["\ufffd"]);
});
