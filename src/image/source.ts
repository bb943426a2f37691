/** Where an image comes from: a registry, a layout's directory, an archive. All that a pull needs of it. */

import type { Digest } from "./digest.ts";
import type { Descriptor } from "./manifest.ts";

/** A manifest or index as its exact bytes, with what the source says it is. */
export type FetchedManifest = {
  readonly bytes: Uint8Array;
  readonly mediaType: string | undefined;
  readonly digest: Digest;
};

export type BlobStream = {
  readonly stream: AsyncIterable<Uint8Array>;
  /** Where in the blob the stream starts: what was asked for, or 0 when the source cannot skip. */
  readonly offset: number;
};

export type ImageSource = {
  /** For errors and progress: `docker.io/library/alpine:3.20`. */
  readonly name: string;
  /** Digest of the image's manifest or index by a cheap question; undefined when there is no cheap one. */
  readonly head: () => Promise<Digest | undefined>;
  /** The image's manifest or index. */
  readonly root: () => Promise<FetchedManifest>;
  /** A manifest that an index names; not yet verified. */
  readonly manifest: (descriptor: Descriptor) => Promise<Uint8Array>;
  /** A config or layer from `offset`; not yet verified. */
  readonly blob: (descriptor: Descriptor, offset: number) => Promise<BlobStream>;
  /** A file on the store's file system that has the blob, hashed by ourselves: it is linked, not copied. */
  readonly adopt?: (digest: Digest) => Promise<string | undefined>;
};

/** Data of a pull's progress, for whoever shows it. Sizes in bytes. */
export type PullEvent =
  | { readonly kind: "resolving"; readonly name: string }
  | { readonly kind: "waiting"; readonly what: string }
  /** A registry is asked again in a while, in words. */
  | { readonly kind: "pause"; readonly text: string }
  | { readonly kind: "layer"; readonly digest: Digest; readonly size: number; readonly state: "exists" | "download" }
  | { readonly kind: "bytes"; readonly digest: Digest; readonly done: number; readonly size: number }
  | { readonly kind: "downloaded"; readonly digest: Digest; readonly size: number }
  | { readonly kind: "unpacking"; readonly digest: Digest; readonly bytes: number }
  | { readonly kind: "unpacked"; readonly digest: Digest; readonly entries: number; readonly bytes: number }
  | { readonly kind: "warning"; readonly text: string }
  | { readonly kind: "done"; readonly name: string; readonly digest: Digest; readonly changed: boolean };

export type OnEvent = (event: PullEvent) => void;
