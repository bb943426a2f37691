/** The version, put in at build time (scripts/build.ts). */

declare const HUTCH_VERSION: string;

export const VERSION: string = typeof HUTCH_VERSION === "undefined" ? "0.0.0-checkout" : HUTCH_VERSION;
