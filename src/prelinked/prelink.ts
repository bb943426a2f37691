/**
 * Prelinking: the launcher of a plain run, assembled when hutch is built, with holes for what is only known at the start.
 *
 * Assembling costs more than anything else that hutch itself does at a start, and of a plain run nearly all is known
 * before. So the very same functions are given values that occur nowhere else, and where these end up in the program are
 * its holes; fill.ts puts the true ones there. Nothing here runs at a start.
 */

import type { Arch } from "../libc/syscalls.ts";
import { explainArguments } from "../launch/become.ts";
import { assemble } from "../launch/supervise.ts";
import { DATA_ADDRESS, encode, partOffsets } from "../launch/program.ts";
import { plainFilter, plainPlan } from "./plain.ts";
import { DIRECTORY_ROOM, LANDLOCK, PLAIN_SELF, type Prelinked, type Shape, type Values } from "./shape.ts";

/** Values that occur nowhere else: numbers of ten digits that fit into 31 bits, words of control characters. */
const MARK = {
  directory: (index: number) => `/${"\u0001".repeat(DIRECTORY_ROOM - 3)}${index}`,
  reportFd: 1_234_567_801,
  executableFd: 1_234_567_802,
  argvBytes: 1_234_567_803,
  groups: 1_234_567_804,
  nofileSoft: 1_234_567_805,
  nofileHard: 1_234_567_806,
  uidStart: 1_234_567_807,
  uidSize: 1_234_567_808,
  gidStart: 1_234_567_809,
  gidSize: 1_234_567_810,
  lease: 1_234_567_811,
  command: "\u0002command",
  env: "\u0003variable",
  path: "/\u0003path",
} as const;

/** One for each directory of a shape. */
const marked = ({ layers }: Shape): readonly undefined[] => Array.from({ length: Math.max(1, layers) });

function markedValues(shape: Shape): Values {
  const groups: number[] = [];
  groups.length = MARK.groups; // nobody looks into it: the plan has its length
  return {
    directories: marked(shape).map((_, index) => MARK.directory(index)),
    from: "",
    args: [MARK.command],
    env: [MARK.env, `PATH=${MARK.path}`],
    uid: MARK.uidStart,
    gid: MARK.gidStart,
    ranges: shape.root
      ? { uid: { start: MARK.uidStart, size: MARK.uidSize }, gid: { start: MARK.gidStart, size: MARK.gidSize } }
      : undefined,
    groups,
    nofile: { soft: MARK.nofileSoft, hard: MARK.nofileHard },
    landlock: shape.scopes ? LANDLOCK.scopes : LANDLOCK.least,
  };
}

/** Every offset in `image`, from `start`, at which `bytes` stand. */
function find(image: Uint8Array, bytes: Uint8Array, start: number, end = image.length): number[] {
  const haystack = Buffer.from(image.buffer, image.byteOffset, end);
  const offsets: number[] = [];
  for (let at = haystack.indexOf(bytes, start); at >= 0; at = haystack.indexOf(bytes, at + 1)) offsets.push(at);
  return offsets;
}

const number32 = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer);
const number64 = (value: number): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Prelink the launcher of a shape for an architecture. @throws Error when a value has not left the holes that it must */
export async function prelink(shape: Shape, arch: Arch): Promise<Prelinked> {
  const { reportFd, executableFd, argvBytes } = MARK;
  const { program } = assemble(plainPlan(shape, markedValues(shape), await plainFilter(arch)), arch, {
    reportFd,
    argvBytes,
    held: shape.image ? [MARK.lease] : [],
    become: { executableFd, outputFd: undefined, argv: (report) => explainArguments(PLAIN_SELF, report, undefined) },
  });
  const image = encode(program);
  const { records, data } = partOffsets(program);
  const found = (name: string, offsets: readonly number[], expected: boolean): readonly number[] => {
    if (offsets.length > 0 !== expected) throw new Error(`${name} is at ${offsets.length} places of the launcher`);
    return offsets;
  };
  const inWords = (value: number) => find(image, number32(value), records, data);
  const inData = (bytes: Uint8Array) => find(image, bytes, data);
  /** Words with the address of an array whose first entry is this string. */
  const arrays = (first: string) => {
    const strings = inData(text(`${first}\0`)).map((at) => DATA_ADDRESS + at - data);
    return strings.flatMap((string) => inData(number64(string))).flatMap((at) => inWords(DATA_ADDRESS + at - data));
  };
  return {
    image: image.toBase64(),
    bytes: image.length,
    end: DATA_ADDRESS + image.length - data,
    holes: {
      directories: marked(shape).map((_, index) => {
        return found(`directory ${index}`, inData(text(`${MARK.directory(index)}\0`)), true);
      }),
      lease: found("the lease", inWords(MARK.lease), shape.image),
      reportFd: found("the report", inWords(MARK.reportFd), true),
      reportWord: found("the report's number", inData(text(`${MARK.reportFd}\0`)), true),
      executableFd: found("the executable", inWords(MARK.executableFd), true),
      argvBytes: found("the length of argv", inWords(MARK.argvBytes), true),
      groups: found("the number of groups", inWords(MARK.groups), !shape.root),
      nofileSoft: found("the soft limit", inData(number64(MARK.nofileSoft)), true),
      nofileHard: found("the hard limit", inData(number64(MARK.nofileHard)), true),
      uidStart: found("the uid", inData(text(`${MARK.uidStart}`)), true),
      uidSize: found("the number of uids", inData(text(`${MARK.uidSize}`)), shape.root),
      gidStart: found("the gid", inData(text(`${MARK.gidStart}`)), true),
      gidSize: found("the number of gids", inData(text(`${MARK.gidSize}`)), shape.root),
      candidates: found("the paths of the command", arrays(`${MARK.path}/${MARK.command}`), true),
      args: found("argv", arrays(MARK.command), true),
      env: found("the environment", arrays(MARK.env), true),
    },
  };
}
