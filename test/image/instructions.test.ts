/** Instructions of --change, by Docker's rules. */

import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseImageConfig } from "../../src/image/config.ts";
import { applyInstruction, type InstructedConfig } from "../../src/image/instructions.ts";

const apply = (...texts: readonly string[]): InstructedConfig =>
  texts.reduce<InstructedConfig>((config, text) => applyInstruction(config, text, text), {});

test.each([
  [['CMD ["sh", "-c", "echo \\"$X\\""]'], { Cmd: ["sh", "-c", 'echo "$X"'] }],
  [["CMD echo $HOME 'a b'"], { Cmd: ["/bin/sh", "-c", "echo $HOME 'a b'"] }],
  [["CMD=/bin/bash"], { Cmd: ["/bin/sh", "-c", "/bin/bash"] }],
  [["cmd []"], { Cmd: [] }],
  [['  ENTRYPOINT\t["/x"]\n'], { Entrypoint: ["/x"] }],
  [["ENV A=b"], { Env: ["A=b"] }],
  [["ENV A=b C=d=e", "ENV A=f"], { Env: ["A=f", "C=d=e"] }],
  [
    [`ENV A="b c" D='e "f"' G=h\\ i J= K=\\$x L="\\$\\"\\q" M='$'`],
    { Env: ["A=b c", 'D=e "f"', "G=h i", "J=", "K=$x", 'L=$"\\q', "M=$"] },
  ],
  [["ENV A b  c=d"], { Env: ["A=b  c=d"] }],
  [['LABEL "a.b"="c d" e=f', "LABEL e=g"], { Labels: { "a.b": "c d", e: "g" } }],
  [["LABEL=a=b"], { Labels: { a: "b" } }],
  [["WORKDIR /a/../b//c/."], { WorkingDir: "/b/c" }],
  [["WORKDIR a", "WORKDIR b c"], { WorkingDir: "/a/b c" }],
  [["WORKDIR /"], { WorkingDir: "/" }],
  [["USER web:log"], { User: "web:log" }],
  [["STOPSIGNAL quit"], { StopSignal: "SIGQUIT" }],
  [["STOPSIGNAL 9"], { StopSignal: "SIGKILL" }],
  [
    ["EXPOSE 80 53/UDP 8000-8002/tcp"],
    { ExposedPorts: { "80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {} } },
  ],
  [["VOLUME /a /b", 'VOLUME ["/c d"]'], { Volumes: { "/a": {}, "/b": {}, "/c d": {} } }],
] as const)("%j", (texts, config) => {
  expect(apply(...texts)).toEqual(config as InstructedConfig);
});

test.each([
  ["", "unknown instruction"],
  ["RUN true", 'unknown instruction "RUN"'],
  ["toString x", "unknown instruction"],
  ["__proto__ x", "unknown instruction"],
  ["CMD", "CMD: no value"],
  ["CMD ['sh']", "CMD: not a list in JSON"],
  ["CMD [1]", "CMD: not a list of texts"],
  ['CMD ["\\u0000"]', "CMD: not a list of texts"],
  ['CMD ["\\ud800"]', "CMD: not a list of texts"],
  ["ENV A", "neither NAME=VALUE nor NAME VALUE"],
  ["ENV =b", "is not NAME=VALUE"],
  ["ENV A=b C", '"C" is not NAME=VALUE'],
  ["ENV A='b", "a quote or backslash without its end"],
  ["ENV A=b\\", "a quote or backslash without its end"],
  ["ENV PATH=/x:$PATH", "variables are not expanded"],
  ['LABEL a="${b}"', "variables are not expanded"],
  ["USER ''", "an empty value"],
  ["STOPSIGNAL never", "unknown signal"],
  ["EXPOSE 0", "is not PORT"],
  ["EXPOSE 80-79", "is not PORT"],
  ["EXPOSE 80/ip", "is not PORT"],
  ["EXPOSE 99999", "is not PORT"],
  ["VOLUME []", "an empty path"],
  ["USER a\udc80", "not UTF-8"],
  ["USER a\0", "NUL"],
] as const)("%j is refused", (text, why) => {
  expect(() => apply(text)).toThrow(why);
});

test("what is quoted comes back, and the config can be read", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "binary" }).filter((text) => text.isWellFormed() && !text.includes("\0")),
      (text) => {
        const quoted = `"${text.replaceAll(/["\\$]/g, "\\$&")}"`;
        const config = apply(
          `ENV A=${quoted} B=c`,
          `LABEL ${quoted === '""' ? "x" : "k"}=${quoted}`,
          `CMD ${JSON.stringify([text])}`,
        );
        expect(config).toMatchObject({ Env: [`A=${text}`, "B=c"], Cmd: [text] });
        expect(Object.values(config.Labels ?? {})).toEqual([text]);
        const whole = { os: "linux", architecture: "amd64", rootfs: { type: "layers", diff_ids: [] }, config };
        expect(parseImageConfig(new TextEncoder().encode(JSON.stringify(whole)), "x").config.Cmd).toEqual([text]);
      },
    ),
  );
});
