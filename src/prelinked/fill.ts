/** Filling the holes of a prelinked launcher: the counterpart of prelink.ts, and on the way of a start. */

import { encodeBytes, setInt32, setUint64 } from "../bytes.ts";
import { growData } from "../launch/program.ts";
import { DIRECTORY_ROOM, ID_COLUMNS, type Prelinked, type Values } from "./shape.ts";

/** What the launcher is to have beside a plain run's values. */
export interface Numbers {
  readonly reportFd: number;
  readonly executableFd: number;
  /** Bytes of this process's argv. */
  readonly argvBytes: number;
  /** The descriptor that keeps an image's layers from being removed. */
  readonly lease?: number | undefined;
}

/**
 * The launcher as an ELF executable. `candidates` are the paths that are tried for the command.
 * @returns undefined when a value does not fit: a directory's path is longer than its room
 */
export function fill(
  { image: base64, bytes, end, holes }: Prelinked,
  values: Values,
  candidates: readonly string[],
  numbers: Numbers,
): Uint8Array | undefined {
  const directories: Uint8Array[] = [];
  for (const path of values.directories) directories.push(encodeBytes(path));
  for (const path of directories) if (path.length >= DIRECTORY_ROOM) return undefined;
  const arrays = stringArrays([candidates, values.args, values.env], end);
  const image = new Uint8Array(bytes + arrays.bytes.length);
  image.setFromBase64(base64);
  image.set(arrays.bytes, bytes);
  growData(image);

  const number = (at: readonly number[], value: number) => {
    for (const offset of at) setInt32(image, offset, value);
  };
  const limit = (at: readonly number[], value: number) => {
    for (const offset of at) {
      if (value === Number.POSITIVE_INFINITY) image.fill(0xff, offset, offset + 8);
      else setUint64(image, offset, value);
    }
  };
  const text = (at: readonly number[], encoded: Uint8Array, room: number) => {
    for (const offset of at) image.fill(0, offset, offset + room).set(encoded, offset);
  };
  const id = (at: readonly number[], value: number | undefined) => {
    if (value !== undefined) text(at, encodeBytes(String(value).padStart(ID_COLUMNS)), ID_COLUMNS);
  };

  let index = 0;
  for (const at of holes.directories) text(at, directories[index++] ?? new Uint8Array(), DIRECTORY_ROOM);
  number(holes.lease, numbers.lease ?? -1);
  number(holes.reportFd, numbers.reportFd);
  text(holes.reportWord, encodeBytes(String(numbers.reportFd)), ID_COLUMNS);
  number(holes.executableFd, numbers.executableFd);
  number(holes.argvBytes, numbers.argvBytes);
  number(holes.groups, values.groups.length);
  limit(holes.nofileSoft, values.nofile.soft);
  limit(holes.nofileHard, values.nofile.hard);
  id(holes.uidStart, values.ranges?.uid.start ?? values.uid);
  id(holes.gidStart, values.ranges?.gid.start ?? values.gid);
  id(holes.uidSize, values.ranges?.uid.size);
  id(holes.gidSize, values.ranges?.gid.size);
  const [candidatesAt = 0, argsAt = 0, envAt = 0] = arrays.addresses;
  number(holes.candidates, candidatesAt);
  number(holes.args, argsAt);
  number(holes.env, envAt);
  return image;
}

/** NULL-terminated arrays of pointers to strings, as they are in memory from `address` on, and where each begins. */
function stringArrays(
  lists: readonly (readonly string[])[],
  address: number,
): { readonly bytes: Uint8Array; readonly addresses: readonly number[] } {
  const padding = -address & 7;
  let pointers = 0;
  const encoded: Uint8Array[] = [];
  let length = 0;
  for (const list of lists) {
    pointers += list.length + 1;
    for (const word of list) {
      const text = encodeBytes(word);
      encoded.push(text);
      length += text.length + 1;
    }
  }
  let [index, pointer, string] = [0, padding, padding + 8 * pointers];
  const bytes = new Uint8Array(string + length);
  const addresses: number[] = [];
  for (const list of lists) {
    addresses.push(address + pointer);
    for (const end = index + list.length; index < end; index++) {
      const text = encoded[index] ?? new Uint8Array();
      setUint64(bytes, pointer, address + string);
      bytes.set(text, string);
      pointer += 8;
      string += text.length + 1;
    }
    pointer += 8;
  }
  return { bytes, addresses };
}
