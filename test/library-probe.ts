/** Run by library.test.ts as each kind of caller: `probe.ts LIBRARY FOLDER`. Prints one line of JSON. */

import type * as Library from "../src/index.ts";

const [, , path = "", folder = ""] = process.argv;
const { HutchError, run, start, UsageError } = (await import(path)) as typeof Library;

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const present = <T>(value: T | undefined): T => {
  if (value === undefined) throw new Error("something is missing");
  return value;
};
const failure = async (promise: Promise<unknown>) => {
  try {
    await promise;
    return "no error";
  } catch (error) {
    if (!(error instanceof HutchError)) return `${(error as Error).name}: ${(error as Error).message}`;
    const { name, message, step, errno, code, hint, exitCode } = error;
    return { name, message, step, errno, code, hint: hint !== undefined, exitCode, usage: error instanceof UsageError };
  }
};
const busybox = { root: "scratch", volumes: [{ source: "/bin/busybox", target: "/bin/busybox" }] } as const;
const shell = (script: string) => ({ ...busybox, command: ["/bin/busybox", "sh", "-c", script] });

const plain = await run(shell("cat; echo out; echo err >&2; exit 7"), { stdin: "words\n" });
const killed = await run(shell("kill -9 $$"));
const environment = await run({
  ...shell("echo $HOME $PATH $HOSTNAME $A $SECRET; pwd; id -u"),
  env: { A: "b c" },
  cwd: "/tmp",
});

// Two at once, each waiting for the other's word.
const [first, second] = await Promise.all([
  start(shell("read x; echo first got $x; echo from-first >&2"), { stdin: "pipe" }),
  start(shell("echo from-second; read x; echo second got $x"), { stdin: "pipe" }),
]);
const reader = present(second.stdout).getReader();
const said = text(present((await reader.read()).value));
void present(first.stdin).write(said);
await present(first.stdin).end();
const firstSaid = await new Response(first.stdout).text();
void present(second.stdin).write(await new Response(first.stderr).text());
await present(second.stdin).end();
let secondSaid = "";
for (let part = await reader.read(); !part.done; part = await reader.read()) secondSaid += text(part.value);
const both = [await first.outcome, await second.outcome].map(({ exitCode }) => exitCode);

const stream = new ReadableStream<Uint8Array>({
  start: (controller) => {
    for (let i = 0; i < 50; i++) controller.enqueue(new Uint8Array(10_000).fill(97));
    controller.close();
  },
});
const counted = await run(shell("wc -c"), { stdin: stream });
const large = await run(shell("yes | head -c 3000000"));

const abort = new AbortController();
const slow = await start(shell("echo ready; sleep 1000"), { signal: abort.signal });
await present(slow.stdout).getReader().read();
abort.abort(new Error("enough"));
const aborted = await failure(slow.outcome);
const before = await failure(run(shell("true"), { signal: AbortSignal.abort(new Error("too late")) }));
let disposed: string;
{
  await using sandbox = await start(shell("sleep 1000"));
  disposed = String(sandbox.pid > 0);
}
const terminated = await start(shell("echo ready; exec sleep 1000"));
await present(terminated.stdout).getReader().read();
terminated.kill("SIGTERM");

console.log(
  JSON.stringify({
    plain: { ...plain, stdout: text(plain.stdout), stderr: text(plain.stderr) },
    killed: [killed.exitCode, killed.signal, killed.status],
    environment: text(environment.stdout),
    both: [firstSaid, secondSaid, ...both],
    counted: text(counted.stdout).trim(),
    large: large.stdout.length,
    aborted,
    before,
    disposed,
    terminated: (await terminated.outcome).signal,
    missing: await failure(run({ ...busybox, command: ["nothing-there"] })),
    refused: await failure(run({ ...busybox, command: ["/bin/busybox"], cwd: "/proc/nothing" })),
    wrong: await failure(run({ root: "nowhere", command: ["x"] })),
    absent: await failure(run({ root: `${folder}/absent`, command: ["x"] })),
    descriptors: (await run(shell("ls /proc/self/fd"))).stdout.length,
  }),
);
