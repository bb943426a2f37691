/** What builds make, told by its name: for the patches of a session (kept-diff.ts) and for its shell (phases.ts). */

const PRODUCTS =
  /(?:^|\/)(?:target|node_modules|__pycache__|CMakeFiles|\.deps|\.libs|autom4te\.cache|dist-newstyle|meson-(?:logs|private|info))(?:\/|$)|\.(?:o|lo|la|a|so(?:\.[0-9.]+)?|pyc|pyo|class|d|gch|mod|cmi|cmx|cmo|hi|dyn_o|dyn_hi|rlib|rmeta|gcda|gcno|log|trs|stamp)$|(?:^|\/)(?:config\.(?:status|log|cache)|CMakeCache\.txt|build\.ninja|\.ninja_(?:log|deps)|libtool|stamp-h1?|Makefile\.deps|\.cargo-lock)$/;

/** Whether a path below the build directory has the name of something that a build makes. */
export function isProductName(path: string): boolean {
  return PRODUCTS.test(path);
}

/** The same as an extended regular expression (regex(7)), for bash's `=~`. */
export function productExpression(): string {
  return PRODUCTS.source.replaceAll("(?:", "(").replaceAll("\\/", "/");
}
