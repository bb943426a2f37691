/** The version, put in at build time (scripts/build.ts); in a checkout, the package's. */

import manifest from "../../package.json" with { type: "json" };

export const VERSION: string = manifest.version;
