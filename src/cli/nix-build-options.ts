/** The options of `nix-build-shell`. */

import type { ArgsDef } from "citty";

export const NIX_BUILD_OPTIONS = {
  store: { type: "string", valueHint: "DIR", description: "the chroot store below DIR, as given to nix --store" },
  network: { type: "string", valueHint: "none|host", description: "no network but loopback, or the host's [none]" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;
