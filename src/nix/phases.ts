/**
 * What is inside the sandbox besides the build: shell text for re-running stdenv's phases and for an interactive shell.
 * All of it is bash without readline or programmable completion, as nixpkgs' builders have it, and uses builtins only.
 *
 * A phase runs in a shell of its own, as the builder did: it inherits what is exported, sources `.attrs.sh` and
 * `$stdenv/setup`, takes up the variables that the last phase left, runs the phase by stdenv's runPhase (nixpkgs since
 * 2023) or genericBuild, and leaves its exports, other variables, directory and phase for the next one.
 */

import { productExpression } from "./build-products.ts";
import { shellQuote } from "./structured-attributes.ts";

/** Where the shell text works. All are paths inside the sandbox. */
export interface PhaseSettings {
  /** The shell that the phases run in: env-vars' SHELL. */
  readonly shell: string;
  readonly buildTop: string;
  /** A directory that phases may leave their state in; outside the build directory, so that it is no change. */
  readonly stateDirectory: string;
  /** A directory that stays at the end of the user's PATH, whatever a phase makes of that; phases do not have it. */
  readonly added?: string;
}

/** nixpkgs' phases in order, with the hooks for more between them, for a setup that only genericBuild knows them from. */
const STANDARD_PHASES =
  "${prePhases[*]:-} unpackPhase patchPhase ${preConfigurePhases[*]:-} configurePhase ${preBuildPhases[*]:-} buildPhase checkPhase ${preInstallPhases[*]:-} installPhase ${preFixupPhases[*]:-} fixupPhase installCheckPhase ${preDistPhases[*]:-} distPhase ${postPhases[*]:-}";

/**
 * The program of the shell that a phase runs in: `$1` is `phase`, `from` or `list`, `$2` the phase's name.
 * Exit status: the phase's own; 2 for a phase that does not exist.
 */
export function phaseProgram(settings: PhaseSettings): string {
  const state = shellQuote(settings.stateDirectory);
  const top = shellQuote(settings.buildTop);
  return `
__hutch_state=${state} __hutch_verb=$1 __hutch_wanted=\${2:-} __hutch_dir=$PWD
set --
if [ -z "\${stdenv:-}" ] && [ ! -e ${top}/.attrs.sh ]; then
  echo "phase: this build has no stdenv" >&2; exit 2
fi
cd ${top}
export NIX_BUILD_TOP=${top}
if [ -e ${top}/.attrs.sh ]; then
  export NIX_ATTRS_SH_FILE=${top}/.attrs.sh NIX_ATTRS_JSON_FILE=${top}/.attrs.json
  source ${top}/.attrs.sh
fi
if [ -z "\${stdenv:-}" ] || [ ! -e "$stdenv/setup" ]; then
  echo "phase: $stdenv/setup is not there" >&2; exit 2
fi
: "\${NIX_LOG_FD:=2}"; export NIX_LOG_FD
noDumpEnvVars=1 # sourcing setup is no phase
source "$stdenv/setup"
unset noDumpEnvVars
if [ -e "$__hutch_state/variables" ]; then source "$__hutch_state/variables"; fi
cd "$__hutch_dir" || exit 2
# what tells Nix of the phase (setup prints or echoes it to NIX_LOG_FD) has no reader here; warnings go there too, and stay
printf() { case \${1:-} in "@nix {"*) ;; *) builtin printf "$@" ;; esac; }
echo() { case \${1:-} in "@nix {"*) ;; *) builtin echo "$@" ;; esac; }
__hutch_defined() { [ -n "\${!1:-}" ] || declare -F "$1" >/dev/null; }
__hutch_phases() {
  __hutch_list=\${phases[*]:-}
  if [ -z "$__hutch_list" ] && declare -F definePhases >/dev/null; then definePhases; __hutch_list=\${phases[*]:-}; fi
  if [ -z "$__hutch_list" ]; then __hutch_list="${STANDARD_PHASES}"; fi
  for __hutch_name in $__hutch_list; do if __hutch_defined "$__hutch_name"; then echo "$__hutch_name"; fi; done
}
# in a subshell, and without locals: they would hide what the build calls so, and bash 5.2 refuses them in an EXIT trap
# that a failing command inside eval has set off
__hutch_save() {
  (set -o posix; export -p) > "$__hutch_state/exports"
  __hutch_names=()
  for __hutch_name in {a..z} {A..Z} _; do eval "__hutch_names+=(\\"\\\${!$__hutch_name@}\\")"; done
  for __hutch_name in "\${__hutch_names[@]}"; do
    case $__hutch_name in
      BASH*|__hutch_*|_|DIRSTACK|EUID|UID|PPID|FUNCNAME|GROUPS|SHELLOPTS|PIPESTATUS|LINENO|SECONDS|RANDOM|SRANDOM|EPOCH*|HISTCMD|IFS|OPT*|PWD|OLDPWD|SHLVL|exitCode) continue ;;
    esac
    case \${!__hutch_name@a} in *r*|*x*) continue ;; esac
    declare -p "$__hutch_name" 2>/dev/null || :
  done > "$__hutch_state/variables"
  echo "$PWD" > "$__hutch_state/directory"
  if [ -n "\${curPhase:-}" ]; then echo "$curPhase" > "$__hutch_state/phase"; fi
}
if [ "$__hutch_verb" = list ]; then trap - EXIT; __hutch_phases; exit; fi
__hutch_defined "$__hutch_wanted" || { trap - EXIT; echo "phase: no phase $__hutch_wanted; see phases" >&2; exit 2; }
__hutch_todo=$__hutch_wanted
if [ "$__hutch_verb" = from ]; then
  __hutch_todo= __hutch_seen=
  for __hutch_name in $(__hutch_phases); do
    if [ "$__hutch_name" = "$__hutch_wanted" ]; then __hutch_seen=1; fi
    if [ -n "$__hutch_seen" ]; then __hutch_todo="$__hutch_todo $__hutch_name"; fi
  done
  if [ -z "$__hutch_seen" ]; then trap - EXIT; echo "phase: $__hutch_wanted is not one of the build's phases; see phases" >&2; exit 2; fi
fi
__hutch_leave() {
  __hutch_status=$?
  set +e
  case \${__hutch_had-same} in yes) phases=$__hutch_old ;; "") unset phases ;; esac
  (__hutch_save)
  if declare -F exitHandler >/dev/null; then (exit $__hutch_status); exitHandler; fi
  exit $__hutch_status
}
trap __hutch_leave EXIT
if declare -F runPhase >/dev/null; then
  for __hutch_name in $__hutch_todo; do runPhase "$__hutch_name"; done
else
  __hutch_had=\${phases+yes} __hutch_old=\${phases[*]:-} # to be put back: the phases are not what the build changed
  unset buildCommand buildCommandPath # else genericBuild would run that instead of the phases
  phases=$__hutch_todo
  genericBuild
fi
`;
}

/** Functions `phase`, `phases` for the shell that a user works in; they run {@link phaseProgram} as a file. */
export function phaseFunctions(settings: PhaseSettings): string {
  const { shell } = settings;
  const state = shellQuote(settings.stateDirectory);
  return `
__hutch_program=${shellQuote(phaseProgram(settings))}
# from a file: a bash of 5.2 with -c says "pop_var_context" when a command fails inside eval inside a function
__hutch_run() { printf %s "$__hutch_program" >| ${state}/program && ${shellQuote(shell)} -- ${state}/program "$@"; }
phases() { __hutch_run list; }
phase() {
  local __hutch_verb=phase __hutch_status
  if [ "\${1:-}" = --from ]; then __hutch_verb=from; shift; fi
  if [ $# != 1 ] || [ -z "$1" ]; then echo "usage: phase NAME | phase --from NAME   (names: phases)" >&2; return 2; fi
  __hutch_run "$__hutch_verb" "$1"
  __hutch_status=$?
  __hutch_take_up
  return $__hutch_status
}
# locals have names that no build exports: bash's locals are seen by what is sourced
__hutch_take_up() {
  local __hutch_line
  if [ ! -e ${state}/exports ]; then return; fi
  while IFS= read -r __hutch_line || [ -n "$__hutch_line" ]; do
    # what the phase exported, but not the shell's own book-keeping
    case $__hutch_line in "export PWD="*|"export OLDPWD"*|"export SHLVL="*) ;; *) printf '%s\\n' "$__hutch_line" ;; esac
  done < ${state}/exports > ${state}/exports.kept
  source ${state}/exports.kept
  IFS= read -r __hutch_line < ${state}/directory
  cd -- "$__hutch_line" || cd -- ${shellQuote(settings.buildTop)}
  if [ -e ${state}/phase ]; then IFS= read -r HUTCH_PHASE < ${state}/phase; fi
${addToPath(settings)}} 2>/dev/null
`;
}

function addToPath({ added }: PhaseSettings): string {
  if (added === undefined) return "";
  return `case :$PATH: in *:${added}:*) ;; *) export PATH="$PATH:${added}" ;; esac\n`;
}

/** What the first line and the prompt tell. */
export interface ShellFacts {
  /** Package, as env-vars' `name`. */
  readonly name: string;
  /** The phase that failed; undefined when no log tells. */
  readonly phase: string | undefined;
  /** Host path of the kept directory. */
  readonly keptDirectory: string;
  /** Where changes go: a host path, or undefined when they are thrown away. */
  readonly changes: string | undefined;
  /** Directory to start in, inside the sandbox. */
  readonly workingDirectory: string;
}

/** The line that greets the user. */
export function greeting(facts: ShellFacts): string {
  const phase = facts.phase === undefined ? "" : `, failed in ${facts.phase}`;
  const changes = facts.changes === undefined ? "changes are thrown away" : `changes are kept in ${facts.changes}`;
  return `${facts.name}${phase}; kept in ${facts.keptDirectory}; ${changes}`;
}

/**
 * A file for bash's `--rcfile` (a terminal), or for BASH_ENV (commands from stdin): the build's variables, the functions,
 * the prompt, the starting directory. The build's own `PS1`, if any, is not used.
 */
export function shellStartup(settings: PhaseSettings, facts: ShellFacts): string {
  const top = settings.buildTop;
  // promptvars would expand what a package's name says: it is data, in a variable that the prompt shows
  return `unset BASH_ENV
if [ -e ${shellQuote(`${top}/env-vars`)} ]; then source ${shellQuote(`${top}/env-vars`)}; fi
${addToPath(settings)}set +eu +o pipefail
${phaseFunctions(settings)}
HUTCH_NAME=${shellQuote(facts.name)}
HUTCH_PHASE=${shellQuote(facts.phase ?? "")}
PS1='[\${HUTCH_NAME}\${HUTCH_PHASE:+:$HUTCH_PHASE}] \\w\\$ '
unset PROMPT_COMMAND HISTFILE
cd -- ${shellQuote(facts.workingDirectory)} 2>/dev/null || cd -- ${shellQuote(top)}
`;
}

/**
 * `kept-diff [--no-products]` for inside the sandbox: what differs between the build directory and the kept one, which is
 * visible there at `keptPath`. By diff where the build has one (stdenv has), else a list by content, with bash alone.
 */
export function keptDiffFunction(keptPath: string, buildTop: string): string {
  const [kept, top] = [shellQuote(keptPath), shellQuote(buildTop)];
  return `
kept-diff() {
  if [ "\${1:-}" != --no-products ] && type -P diff >/dev/null; then
    (cd / && diff -ruN --no-dereference -x env-vars "$@" ${kept} ${top})
    return
  fi
  (
    shopt -s globstar dotglob nullglob; LC_ALL=C status=0 skip= diff= product=${shellQuote(productExpression())}
    if [ "\${1:-}" = --no-products ]; then skip=1; shift; if type -P diff >/dev/null; then diff=1; fi; fi
    differs() {
      if [ -n "$diff" ]; then ! diff -q --no-dereference ${kept}/"$1" "$1" >/dev/null
      else [ -f "$1" ] && [ "$(< "$1")" != "$(< ${kept}/"$1")" ]; fi
    }
    # a NUL in the beginning
    is_binary() { [ -f "$1" ] && IFS= read -r -d '' -n 8192 head < "$1" && [ \${#head} -lt 8192 ]; }
    tell() {
      if [ -n "$skip" ]; then
        if [[ $2 =~ $product ]]; then return; fi
        if [ "$1" = added ] && is_binary "$2"; then return; fi
      fi
      status=1
      if [ -n "$diff" ]; then diff -uN --no-dereference "\${@:3}" ${kept}/"$2" ${top}/"$2"
      else builtin printf '%-8s %s\\n' "$1" "$2"; fi
    }
    cd ${top}; for f in **; do
      [ -L "$f" ] || [ ! -d "$f" ] || continue
      [ "$f" != env-vars ] || continue
      if [ ! -e ${kept}/"$f" ] && [ ! -L ${kept}/"$f" ]; then tell added "$f" "$@"
      elif differs "$f"; then tell changed "$f" "$@"; fi
    done 2>/dev/null
    cd ${kept}; for f in **; do
      [ -L "$f" ] || [ ! -d "$f" ] || continue
      if [ ! -e ${top}/"$f" ] && [ ! -L ${top}/"$f" ]; then tell removed "$f" "$@"; fi
    done
    exit $status
  )
}
`;
}
