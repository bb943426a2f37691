/** The attacks of hostile layers once more, as an ordinary user with one id, when the tests are root's. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { attacksOn } from "./helpers/attacks.ts";
import { imageAttacks } from "./helpers/image-attacks.ts";

const AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/"];
const FILES = ["./test/image/attacks.test.ts", "./test/image/attack-ways.test.ts"];

test.if(process.getuid?.() === 0)(
  "A7: as uid 65534 (root alone can be another)",
  async () => {
    const root = join(import.meta.dir, "../..");
    const command = [process.execPath, "test", "--timeout=60000", ...FILES, "-t", "^A7"];
    const child = Bun.spawn([...AS_NOBODY, ...command], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    const output = await new Response(child.stderr).text();
    const count = FILES.length * Object.keys(attacksOn("/nowhere")).length + Object.keys(imageAttacks).length;
    expect(output).toContain(`\n ${count} pass\n`);
    expect(output).toContain("\n 0 fail\n");
    expect(await child.exited).toBe(0);
  },
  { timeout: 180_000 },
);
