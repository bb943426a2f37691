/**
 * Whether two programs do the same, wherever in their data things stand: every record alike, an address in the data being
 * as good as what is there.
 */

import { PSEUDO, type Program, DATA_ADDRESS, operationName, RECORD, RECORD_WORDS } from "../../src/launch/program.ts";

/** Bytes that a call reads at an address, by call and argument; what is not named is a NUL-terminated string. */
const STRUCTURES: Readonly<Record<string, readonly (number | "argv" | "bytes" | undefined)[]>> = {
  rt_sigprocmask: [undefined, 8, undefined, undefined],
  rt_sigaction: [undefined, 32],
  rt_sigtimedwait: [8, undefined, 16, undefined],
  mount_setattr: [undefined, undefined, undefined, 32],
  openat2: [undefined, undefined, 24],
  write: [undefined, "bytes"],
  prlimit64: [undefined, undefined, 16],
  capset: [8, 24],
  landlock_create_ruleset: [24],
  ppoll: [8, undefined, 16],
  ioctl: [undefined, undefined, 40],
  execve: [undefined, "argv", "argv"],
  execveat: [undefined, undefined, "argv", "argv"],
  sub: ["argv"],
  and: [undefined, 8],
  prctl: [undefined, undefined, 16],
};

const address = (program: Program, at: number): number =>
  Number(new DataView(program.data.buffer, program.data.byteOffset).getBigUint64(at - DATA_ADDRESS, true));
const isData = (program: Program, value: number): boolean =>
  value >= DATA_ADDRESS && value < DATA_ADDRESS + program.data.length;

function bytes(program: Program, at: number, length: number): string {
  return program.data.subarray(at - DATA_ADDRESS, at - DATA_ADDRESS + length).toHex();
}

function string(program: Program, at: number): string {
  const start = at - DATA_ADDRESS;
  return program.data.subarray(start, program.data.indexOf(0, start)).toHex();
}

function strings(program: Program, at: number): readonly string[] {
  const list: string[] = [];
  for (let entry = at; address(program, entry) !== 0; entry += 8) {
    const to = address(program, entry);
    list.push(isData(program, to) ? string(program, to) : `cell ${to}`);
  }
  return list;
}

/** struct sock_fprog and its instructions. */
function filter(program: Program, at: number): string {
  const count = new DataView(program.data.buffer, program.data.byteOffset).getUint16(at - DATA_ADDRESS, true);
  return bytes(program, address(program, at + 8), 8 * count);
}

/** A program's records as text that two programs share when they do the same. */
export function recordsOf(program: Program): readonly string[] {
  const { words } = program;
  const records: string[] = [];
  for (let at = 0; at < words.length; at += RECORD_WORDS) {
    const operation = words[at + RECORD.operation] ?? 0;
    const name = operationName(operation, program.arch);
    const args = [...words.subarray(at + RECORD.arguments, at + RECORD.arguments + 6)];
    const shown = args.map((value, index) => {
      if (!isData(program, value)) return String(value);
      const extent = STRUCTURES[name]?.[index];
      if (name === "prctl" && extent === 16) return `filter ${filter(program, value)}`;
      if (extent === "argv") return JSON.stringify(strings(program, value));
      const length = extent === "bytes" ? args[index + 1] : extent;
      return length === undefined ? `string ${string(program, value)}` : bytes(program, value, length);
    });
    const flow = words.subarray(at + RECORD.result, at + RECORD_WORDS);
    records.push(
      `${operation === PSEUDO.sub ? "sub" : name} ${words[at + RECORD.mask]} ${shown.join(" ")} → ${flow.join(" ")}`,
    );
  }
  return records;
}
