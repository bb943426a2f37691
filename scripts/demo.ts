/**
 * Build the binary and show hutch at its work, on this machine's own programs and a directory made for it.
 *   npm run demo
 */

import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mustRun, ROOT } from "./run.ts";

const hutch = join(ROOT, "dist/hutch");
const mydocker = join(ROOT, "dist/mydocker");

interface Scene {
  readonly says: string;
  readonly argv: readonly string[];
  /** What the output must contain, and the exit code: a demo that only prints would not notice that nothing works. */
  readonly output: RegExp;
  readonly exitCode: number;
}

function scenes(folder: string): readonly Scene[] {
  const add = ["bash", "ls", "cat", "whoami"].flatMap((name) => ["--add", name]);
  return [
    {
      says: "a directory with nothing but a file, and four programs of the host (nothing is copied, the directory is not changed)",
      argv: [
        hutch,
        "run",
        ...add,
        join(folder, "rootfs"),
        "bash",
        "-c",
        "ls /home && cat /home/hello.txt && echo new > /home/new",
      ],
      output: /^hello\.txt\nHello, World!\n$/,
      exitCode: 0,
    },
    {
      says: "an empty root: its own processes, network, names",
      argv: [
        hutch,
        "run",
        "--add",
        "bash",
        "--add",
        "ps",
        "--add",
        "cat",
        "--hostname",
        "box",
        "scratch",
        "bash",
        "-c",
        "ps -A -o pid,comm; cat /proc/net/dev /etc/hostname",
      ],
      output: /\n +1 hutch-init\n[^]* lo:[^]*\nbox\n$/,
      exitCode: 0,
    },
    {
      says: "the host's own root, read-only",
      argv: [hutch, "run", "--read-only", "/", "sh", "-c", "id -u; touch /tmp/x"],
      output: /^0\n[^]*Read-only file system/,
      exitCode: 1,
    },
    {
      says: "mydocker: the program is PID 1 and sees nothing of the host",
      // Nothing listens there: the empty root of a machine without network.
      argv: [mydocker, "run", "127.0.0.1:9/alpine:latest", "/bin/ls", "/some_dir"],
      output: /No such file or directory/,
      exitCode: 2,
    },
    {
      says: "exit codes are the program's own, signals 128 + N",
      argv: [hutch, "run", "--add", "sh", "scratch", "sh", "-c", "kill -TERM $$"],
      output: /^$/,
      exitCode: 143,
    },
    {
      says: "what would be done, step by step",
      argv: [hutch, "plan", "--add", "true", "scratch", "true"],
      output: /^launcher\n[^]*\nsandbox\n[^]*\nprogram\n[^]* exec true /,
      exitCode: 0,
    },
  ];
}

async function play(scene: Scene): Promise<boolean> {
  const words = scene.argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word}'`));
  console.log(`\n# ${scene.says}\n$ ${words.join(" ").replaceAll(`${ROOT}/`, "")}`);
  const started = performance.now();
  const result = Bun.spawnSync([...scene.argv], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const output = result.stdout.toString() + result.stderr.toString();
  const took = (performance.now() - started).toFixed(0);
  process.stdout.write(output);
  const good = scene.output.test(output) && result.exitCode === scene.exitCode;
  console.log(
    `[exit ${result.exitCode}, ${took} ms]${good ? "" : `  <- expected exit ${scene.exitCode} and ${scene.output}`}`,
  );
  return good;
}

await mustRun([process.execPath, "--no-env-file", "scripts/build.ts"]);
const folder = await mkdtemp(join(tmpdir(), "hutch-demo-"));
let failed = 0;
try {
  for (const name of ["bin", "etc", "home"]) await mkdir(join(folder, "rootfs", name), { recursive: true });
  await writeFile(join(folder, "rootfs/home/hello.txt"), "Hello, World!\n");
  for (const scene of scenes(folder)) if (!(await play(scene))) failed += 1;
  const kept = await readFile(join(folder, "rootfs/home/hello.txt"), "utf8");
  const added = await Bun.file(join(folder, "rootfs/home/new")).exists();
  if (kept !== "Hello, World!\n" || added) {
    console.log("the directory was changed: it must not be");
    failed += 1;
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
console.log(failed === 0 ? "\nall as expected" : `\n${failed} not as expected`);
process.exitCode = failed === 0 ? 0 : 1;
