/** The options of `nix-build-shell`. */

import type { ArgsDef } from "citty";

export const NIX_BUILD_OPTIONS = {
  keep: { type: "string", valueHint: "DIR", description: "copy the build directory to DIR, and leave it there" },
  diff: { type: "boolean", description: "at the end, show what has changed, on stderr" },
  "no-products": { type: "boolean", description: "with --diff: leave out what builds make" },
  exact: {
    type: "boolean",
    description: "the store and the rules as Nix has them: the build's inputs alone, $out writable",
  },
  verify: { type: "boolean", description: "enter nothing: tell what is as in Nix's own sandbox, and what is not" },
  drv: {
    type: "string",
    valueHint: "FILE.drv",
    description: "the build's derivation; without BUILD_DIR, enter a build that has not failed yet",
  },
  build: {
    type: "boolean",
    description: "BUILD_DIR is what the command that follows leaves: nix-build …, nix build …",
  },
  pick: { type: "string", valueHint: "N", description: "with --build: of several failed builds, the Nth" },
  list: { type: "boolean", description: "the failed builds that are still kept on this machine" },
  "export-patch": {
    type: "string",
    valueHint: "FILE",
    description: "at the end, write what has changed in the sources to a new FILE, as a patch for the source root",
  },
  log: { type: "string", valueHint: "FILE", description: "the build's log, when it is not in the store" },
  store: { type: "string", valueHint: "DIR", description: "the chroot store below DIR, as given to nix --store" },
  network: { type: "string", valueHint: "none|host", description: "no network but loopback, or the host's [none]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;
