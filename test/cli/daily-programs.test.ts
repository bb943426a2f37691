/** Programs of every day in an empty root, by --add alone: what they open at run time comes along. */

import { beforeAll, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { eachCaller, expectSuccess, needs } from "./hutch.ts";

/** Words of `--add` for programs; a test that lacks one of them says which. */
function add(...programs: readonly string[]): readonly string[] {
  return programs.flatMap((program) => {
    if (!program.startsWith("/")) needs(program);
    else if (!existsSync(program)) throw new Error(`this test needs ${program}, which is not installed`);
    return ["--add", program];
  });
}

const COREUTILS =
  "cat chmod cp cut date env head id ln ls mkdir mv rm seq sha256sum sort stat tail touch tr true uniq wc".split(" ");

interface Case {
  readonly name: string;
  readonly add: readonly string[];
  readonly command: readonly string[];
  readonly says: string | RegExp;
}

const script = (text: string) => ["sh", "-euc", text];

const CASES: readonly Case[] = [
  {
    name: "bash",
    add: ["bash"],
    command: [
      "bash",
      "-euc",
      'a=(1 2 3); [[ ${#a[@]} = 3 ]]; printf "%s\\n" "${a[*]@Q}"; (exit 3) || echo "status $?"',
    ],
    says: "'1' '2' '3'\nstatus 3\n",
  },
  {
    name: "coreutils",
    add: ["sh", ...COREUTILS],
    command: script(
      `mkdir -p /tmp/a/b; seq 10 | sort -rn | head -n 2 | tr '\\n' ' ' > /tmp/a/f; cp /tmp/a/f /tmp/a/g; mv /tmp/a/g /tmp/a/h
       cat /tmp/a/h; echo; ls /tmp/a | wc -l; printf x | sha256sum | cut -c 1-8; id -un; date -u -d @0 +%F
       ln -s h /tmp/a/l; stat -c %N /tmp/a/l; chmod 640 /tmp/a/h; stat -c %a /tmp/a/h; rm /tmp/a/h; LC_ALL=C.UTF-8 printf '%s\\n' done`,
    ),
    says: "10 9 \n3\n2d711642\nroot\n1970-01-01\n'/tmp/a/l' -> 'h'\n640\ndone\n",
  },
  {
    name: "vim edits and saves a file",
    add: ["vim", "sh", "cat"],
    command: script(
      `printf 'one\\ntwo\\n' > /tmp/f; vim -es -c '%s/two/drei/' -c 'normal Gozwei' -c wq /tmp/f < /dev/null; cat /tmp/f`,
    ),
    says: "one\ndrei\nzwei\n",
  },
  {
    name: "vim finds its runtime files: syntax and help",
    add: ["vim", "sh", "cat"],
    command: script(
      `cd /tmp; echo 'int a;' > a.c; vim -es -N -u NONE -c 'syntax on' -c 'e a.c' -c 'call writefile([&ft, synIDattr(synID(1,1,1),"name"), exists(":help")], "o")' -c 'qa!' < /dev/null; cat o`,
    ),
    says: "c\ncType\n2\n",
  },
  {
    name: "python3 with json, ssl and sqlite3",
    add: ["/usr/bin/python3"],
    command: [
      "/usr/bin/python3",
      "-c",
      `import json, ssl, sqlite3, locale, subprocess
rows = sqlite3.connect(":memory:").execute("select 1 + 1").fetchall()
print(json.dumps([rows, ssl.OPENSSL_VERSION.split()[0], len(ssl.create_default_context().get_ca_certs()) > 10]))
print("naïve".encode("cp1252"), "ß".encode("utf-16-le"))`,
    ],
    says: `[[[2]], "OpenSSL", true]\nb'na\\xefve' b'\\xdf\\x00'\n`,
  },
  {
    name: "perl with modules in C",
    add: ["perl"],
    command: [
      "perl",
      "-MPOSIX=strftime",
      "-MEncode",
      "-MDigest::SHA=sha256_hex",
      "-MData::Dumper",
      "-e",
      'print strftime("%Y", gmtime 0), " ", substr(sha256_hex("x"), 0, 8), " ", length(encode("UTF-16LE", "ab")), "\\n"',
    ],
    says: "1970 2d711642 4\n",
  },
  {
    name: "git init, commit, log, clone",
    add: ["git", "sh", "cat"],
    command: script(
      `cd /tmp; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
       git init -q r; cd r; echo hi > f; git add f; git commit -qm one; git log --format=%s; git status --short
       git clone -q /tmp/r /tmp/s; cat /tmp/s/f`,
    ),
    says: "one\nhi\n",
  },
  {
    name: "gcc compiles, links and the result runs",
    add: ["gcc", "sh"],
    command: script(
      `cd /tmp; printf %s '#include <stdio.h>
#include <math.h>
int main(int argc, char **argv) { printf("hello %.3f\\n", sqrt(1 + argc)); return 0; }' > hello.c
       gcc -Wall -Werror -O2 hello.c -o hello -lm; ./hello; gcc -static hello.c -o static -lm; ./static`,
    ),
    says: "hello 1.414\nhello 1.414\n",
  },
  {
    name: "node",
    add: ["node"],
    command: [
      "node",
      "-e",
      'const h = require("node:crypto").createHash("sha256").update("x").digest("hex"); console.log(h.slice(0, 8), new Intl.NumberFormat("de").format(1234.5), require("node:fs").readdirSync("/tmp").length)',
    ],
    says: "2d711642 1.234,5 0\n",
  },
  {
    name: "curl --version",
    add: ["curl"],
    command: ["curl", "--version"],
    says: /^curl \d+\.\d+[^]*\nProtocols: .*https/,
  },
  {
    name: "less by the name in PATH of the sandbox",
    add: ["less", "sh"],
    command: script("echo text > /tmp/f; less /tmp/f"),
    says: "text\n",
  },
];

eachCaller("programs by --add alone", (bench) => {
  for (const { name, add: programs, command, says } of CASES) {
    test(name, async () => {
      expectSuccess(await bench.hutch(["run", ...add(...programs), "scratch", ...command]), says);
    });
  }

  test("a program of a directory that only the caller's PATH has is found by its name", async () => {
    const folder = bench.folder({ "bin/mine": { executable: "#!/bin/sh\necho mine; echo $PATH\n" } });
    const env = { PATH: `${folder}/bin:/usr/bin:/bin` };
    const usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    const found = await bench.hutch(["run", "--add", "mine", "scratch", "mine"], { env });
    expectSuccess(found, `mine\n${usual}:${folder}/bin\n`);
    const path = ["-e", `PATH=/bin:${folder}/bin`];
    const given = await bench.hutch(["run", "--add", "mine", ...path, "scratch", "mine"], { env });
    expectSuccess(given, `mine\n/bin:${folder}/bin\n`);
    // By path it is where it is, and PATH is as ever.
    const named = await bench.hutch(["run", "--add", `${folder}/bin/mine`, "scratch", "sh", "-c", "echo $PATH"], {
      env,
    });
    expectSuccess(named, `${usual}\n`);
  });

  let musl: string;
  beforeAll(() => {
    const folder = bench.folder();
    musl = `${folder}/musl`;
    writeFileSync(`${musl}.c`, '#include <stdio.h>\nint main(void) { puts("from musl"); return 0; }\n');
    const made = Bun.spawnSync([needs("musl-gcc"), "-o", musl, `${musl}.c`]);
    if (made.exitCode !== 0) throw new Error(`musl-gcc: ${made.stderr.toString()}`);
  });

  test("a program of musl, with its loader", async () => {
    const { stdout } = await bench.hutch(["closure", musl]);
    expect(stdout).toContain("/ld-musl-");
    expectSuccess(await bench.hutch(["run", "--add", musl, "scratch", musl]), "from musl\n");
  });
});
