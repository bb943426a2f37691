/**
 * The attacks of hostile images once more, as an ordinary user with one id, when the tests are root's; and in memory
 * where that can hold extended attributes (tmpfs, Linux 6.6): root's are on disk.
 */

import { expect, test } from "bun:test";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AT_FDCWD, closeFile, O, openAt, setXattr } from "../../src/libc/file.ts";
import { attacksOn } from "./helpers/attacks.ts";
import { imageAttacks } from "./helpers/image-attacks.ts";

const AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/"];
const FILES = ["./test/image/attacks.test.ts", "./test/image/attack-ways.test.ts"];
const MEMORY = "/dev/shm";

function holdsAttributes(place: string): boolean {
  try {
    const probe = mkdtempSync(join(place, "hutch-probe-"));
    const fd = openAt(AT_FDCWD, place, O.RDONLY | O.DIRECTORY);
    const result = setXattr(fd, probe.slice(place.length + 1), "user.probe", new Uint8Array(1));
    closeFile(fd);
    rmdirSync(probe);
    return result >= 0;
  } catch {
    return false;
  }
}

test.if(process.getuid?.() === 0)(
  "A7: as uid 65534 (root alone can be another)",
  async () => {
    const root = join(import.meta.dir, "../..");
    const place = `TMPDIR=${holdsAttributes(MEMORY) ? MEMORY : tmpdir()}`;
    const command = [process.execPath, "test", "--timeout=60000", ...FILES, "-t", "^A7"];
    const child = Bun.spawn([...AS_NOBODY, place, ...command], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    const output = await new Response(child.stderr).text();
    const count = FILES.length * Object.keys(attacksOn("/nowhere")).length + Object.keys(imageAttacks).length;
    expect(output).toContain(`\n ${count} pass\n`);
    expect(output).toContain("\n 0 fail\n");
    expect(await child.exited).toBe(0);
  },
  { timeout: 180_000 },
);
