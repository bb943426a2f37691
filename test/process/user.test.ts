/** Users and groups by the root's own files. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { UsageError } from "../../src/errors.ts";
import { parseGroup, parsePasswd, resolveUser } from "../../src/process/user.ts";

const PASSWD = `root:x:0:0:root:/root:/bin/sh
# comment
app:x:1000:1001:App,,,:/srv/app:/bin/sh
twin:x:1000:7::/twin:
homeless:x:1002:1002:::
broken:x:one:1::/b:
short:x
:x:9:9::/n:
1234:x:4000:4001::/num:
far:x:4294967295:0::/f:
tab:x: 5:5::/t:
`;
const GROUP = `root:x:0:
games:x:60:app,root
audio:x:63:root, app
app:x:1001:app
video:x:44:app
broken:x:none:app
99:x:5000:
`;
const resolve = (word: string) => resolveUser(word, PASSWD, GROUP, `-u ${word}`);

describe("passwd", () => {
  test("only whole lines count", () => {
    expect(parsePasswd(PASSWD).map(({ name }) => name)).toEqual(["root", "app", "twin", "homeless", "1234", "far"]);
  });
  test("of nothing is nothing", () => {
    expect(parsePasswd("")).toEqual([]);
    expect(parseGroup("")).toEqual([]);
  });
});

test("group: members as they are written", () => {
  expect(parseGroup(GROUP).slice(0, 3)).toEqual([
    { name: "root", gid: 0, members: [] },
    { name: "games", gid: 60, members: ["app", "root"] },
    { name: "audio", gid: 63, members: ["root", " app"] },
  ]);
  expect(parseGroup(GROUP).map(({ name }) => name)).not.toContain("broken");
});

describe("-u", () => {
  test.each<readonly [string, uid: number, gid: number, additionalGids: number[], home: string]>([
    ["0", 0, 0, [60, 63], "/root"],
    ["root", 0, 0, [60, 63], "/root"],
    ["app", 1000, 1001, [60, 44], "/srv/app"],
    ["1000", 1000, 1001, [60, 44], "/srv/app"], // a number is looked up too, first entry first
    ["twin", 1000, 7, [], "/twin"],
    ["homeless", 1002, 1002, [], "/"],
    ["4242", 4242, 0, [], "/"],
    ["app:0", 1000, 0, [], "/srv/app"],
    ["app:games", 1000, 60, [], "/srv/app"],
    ["app:99", 1000, 5000, [], "/srv/app"], // the name of a group wins over a number
    ["app:98", 1000, 98, [], "/srv/app"],
    ["5:6", 5, 6, [], "/"],
    ["1234", 4000, 4001, [], "/num"], // and so does a user's
    ["4294967294:4294967294", 4_294_967_294, 4_294_967_294, [], "/"],
  ])("%s", (word, uid, gid, additionalGids, home) => {
    expect(resolve(word)).toEqual({ uid, gid, additionalGids, home });
  });

  test.each([
    ["nobody", 'unknown user "nobody"'],
    ["", 'unknown user ""'],
    [":0", 'unknown user ""'],
    ["-1", 'unknown user "-1"'],
    ["1e3", 'unknown user "1e3"'],
    ["0x0", 'unknown user "0x0"'],
    ["12345678901", 'unknown user "12345678901"'],
    ["broken", 'unknown user "broken"'],
    ["0:", 'unknown group ""'],
    ["0:nope", 'unknown group "nope"'],
    ["0:0:0", 'unknown group "0:0"'],
    ["app:broken", 'unknown group "broken"'],
    ["4294967295", "id out of range"], // (uid_t) -1 means "leave it" to setresuid(2)
    ["0:4294967295", "id out of range"],
    ["far", "id out of range"],
  ])("%s is refused", (word, message) => {
    expect(() => resolve(word)).toThrow(expect.objectContaining({ message, from: `-u ${word}` }));
  });

  test("whatever the word and the files, it is two ids that the kernel takes, or a UsageError", () => {
    const line = fc.array(fc.string({ maxLength: 5 }), { maxLength: 8 }).map((fields) => fields.join(":"));
    const file = fc.array(fc.oneof(line, fc.constantFrom(...PASSWD.split("\n"), ...GROUP.split("\n"))), {
      maxLength: 6,
    });
    const word = fc.oneof(fc.string(), fc.constantFrom("app", "root", "0", "4294967295", "app:games", "x:1"));
    fc.assert(
      fc.property(word, file, file, (who, passwd, group) => {
        let found: { uid: number; gid: number; additionalGids: readonly number[] };
        try {
          found = resolveUser(who, passwd.join("\n"), group.join("\n"), "f");
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
          return;
        }
        for (const id of [found.uid, found.gid, ...found.additionalGids]) {
          expect(Number.isInteger(id) && id >= 0 && id < 2 ** 32 - 1).toBe(true);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
