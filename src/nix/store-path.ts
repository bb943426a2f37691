/**
 * Store paths and Nix's base 32 (nix's `store-path.cc`, `hash.cc`): `/nix/store/` + 32 characters of a 160-bit hash +
 * `-` + a name.
 */

import { UsageError } from "../errors.ts";

/**
 * Where a Nix store is. `root` is "" for the machine's own, and the directory given to `--store` for a chroot store,
 * whose files are below it while its paths (in derivations, env-vars, the database) are those without it.
 */
export interface Store {
  readonly root: string;
  readonly storeDir: string;
  readonly stateDir: string;
  readonly logDir: string;
}

/** The machine's store, or the chroot store below `root`. */
export function nixStore(root = ""): Store {
  return {
    root: root.replace(/\/+$/, ""),
    storeDir: "/nix/store",
    stateDir: "/nix/var/nix",
    logDir: "/nix/var/log/nix",
  };
}

/** Where a path of the store (or of its state) is on this machine. */
export function onHost(store: Store, path: string): string {
  return `${store.root}${path}`;
}

/** A store path taken apart: `rest` is what follows the store object's own name, with its slash, or "". */
export interface StorePath {
  readonly path: string;
  readonly hash: string;
  readonly name: string;
  readonly rest: string;
}

const ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"; // no e, o, t, u
const BASE_NAME = /^([0-9abcdfghijklmnpqrsvwxyz]{32})-([0-9A-Za-z+\-._?=]{1,211})$/;

/** Take a path apart that is in the store or below; undefined when it is not one. */
export function parseStorePath(text: string, storeDir = "/nix/store"): StorePath | undefined {
  if (!text.startsWith(`${storeDir}/`)) return undefined;
  const below = text.slice(storeDir.length + 1);
  const slash = below.indexOf("/");
  const base = slash < 0 ? below : below.slice(0, slash);
  const match = BASE_NAME.exec(base);
  if (match === null) return undefined;
  const rest = slash < 0 ? "" : below.slice(slash);
  if (rest.split("/").includes("..")) return undefined;
  return { path: `${storeDir}/${base}`, hash: match[1] ?? "", name: match[2] ?? "", rest };
}

/** The `hash-name` part of a store path. @throws UsageError when it is not one */
export function baseName(path: string, storeDir = "/nix/store"): string {
  const parsed = parseStorePath(path, storeDir);
  if (parsed === undefined || parsed.rest !== "") throw new UsageError(`${path} is not a store path`);
  return `${parsed.hash}-${parsed.name}`;
}

/** A derivation's name: `hello-2.12` of `…-hello-2.12.drv`. */
export function derivationName(path: string): string {
  return path.replace(/^.*\/[0-9a-z]{32}-/, "").replace(/\.drv$/, "");
}

/** Bytes in Nix's base 32: the digits run from the end of the number to its start. */
export function formatBase32(bytes: Uint8Array): string {
  const length = Math.ceil((bytes.length * 8) / 5);
  let text = "";
  for (let n = length - 1; n >= 0; n--) {
    const bit = n * 5;
    const byte = bit >> 3;
    const shift = bit & 7;
    const low = (bytes[byte] ?? 0) >> shift;
    const high = shift > 3 ? (bytes[byte + 1] ?? 0) << (8 - shift) : 0;
    text += ALPHABET[(low | high) & 31];
  }
  return text;
}

/** Read Nix's base 32 back; undefined when it is not of that alphabet or has bits beyond its last byte. */
export function parseBase32(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(Math.floor((text.length * 5) / 8));
  for (let n = 0; n < text.length; n++) {
    const digit = ALPHABET.indexOf(text[text.length - 1 - n] ?? "?");
    if (digit < 0) return undefined;
    const bit = n * 5;
    const byte = bit >> 3;
    const shift = bit & 7;
    const high = digit >> (8 - shift);
    if (byte < bytes.length) bytes[byte] = (bytes[byte] ?? 0) | ((digit << shift) & 0xff);
    else if (((digit << shift) & 0xff) !== 0) return undefined;
    if (byte + 1 < bytes.length) bytes[byte + 1] = (bytes[byte + 1] ?? 0) | high;
    else if (high !== 0) return undefined;
  }
  return bytes;
}
