/* A program to look at a sandbox from inside, without a library of the root: probe COMMAND [ARG...] */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Every argument and, behind an empty line, the environment, in hexadecimal. */
static int strings(int argc, char **argv, char **envp) {
  for (int i = 2; i < argc; i++, puts(""))
    for (unsigned char *c = (unsigned char *)argv[i]; *c; c++) printf("%02x", *c);
  puts("--");
  for (; *envp; envp++, puts(""))
    for (unsigned char *c = (unsigned char *)*envp; *c; c++) printf("%02x", *c);
  return 0;
}

/* Numbers of the open descriptors. */
static int descriptors(void) {
  for (int fd = 0; fd < 1024; fd++)
    if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd);
  puts("");
  return 0;
}

/* Which of the first 64 signals are ignored, and which blocked. */
static int dispositions(void) {
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  printf("ignored:");
  for (int i = 1; i < 32; i++) {
    struct sigaction action;
    if (i != SIGKILL && i != SIGSTOP && sigaction(i, NULL, &action) == 0 && action.sa_handler == SIG_IGN) printf(" %d", i);
  }
  printf(" blocked:");
  for (int i = 1; i < 65; i++)
    if (sigismember(&mask, i) == 1) printf(" %d", i);
  puts("");
  return 0;
}

static int counts[65], stopping;
static void count(int number) {
  char line[32];
  int length = snprintf(line, sizeof line, "[%d:%d]\n", number, ++counts[number]);
  if (write(1, line, length) < 0) _exit(9);
  if (number == SIGTSTP && stopping) kill(getpid(), SIGSTOP);
}

/* Say every signal as [NUMBER:HOW OFTEN] until a q or the end of stdin; with "stop", stop for SIGTSTP as an editor. */
static int signals(int stop) {
  stopping = stop;
  static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP};
  struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
  sigfillset(&action.sa_mask);
  for (unsigned i = 0; i < sizeof watched / sizeof *watched; i++)
    sigaction(watched[i], &action, NULL);
  printf("ready\n");
  fflush(stdout);
  char c;
  ssize_t got;
  while ((got = read(0, &c, 1)) > 0 || (got < 0 && errno == EINTR))
    if (got > 0 && c == 'q') break;
  for (unsigned i = 0; i < sizeof watched / sizeof *watched; i++) printf("%d=%d ", watched[i], counts[watched[i]]);
  puts("end");
  return 0;
}

/* With both blocked from the start: wait for the second signal, then say how often the first has come. */
static int queued(int counted, int last) {
  sigset_t first, second;
  sigemptyset(&first);
  sigaddset(&first, counted);
  sigemptyset(&second);
  sigaddset(&second, last);
  puts("ready");
  fflush(stdout);
  if (sigwaitinfo(&second, NULL) != last) return 1;
  int count = 0;
  while (sigtimedwait(&first, NULL, &(struct timespec){0}) == counted) count++;
  printf("%d times\n", count);
  return 0;
}

/* Try to type into the terminal on stdin: TIOCSTI and TIOCLINUX, with and without bits above the low 32. */
static int type_into_terminal(void) {
  static const unsigned long requests[] = {TIOCSTI, TIOCLINUX, 0xdeadbeef00000000UL | TIOCSTI, 0x100000000UL | TIOCLINUX};
  for (int i = 0; i < 4; i++) {
    char argument = 'x'; /* for TIOCLINUX a subcode that does not exist */
    errno = 0;
    long result = syscall(SYS_ioctl, 0, requests[i], &argument);
    printf("%s%s", i ? " " : "", result == 0 ? "typed" : strerrorname_np(errno));
  }
  struct winsize size;
  printf(" size:%s\n", ioctl(0, TIOCGWINSZ, &size) == 0 ? "ok" : strerrorname_np(errno));
  return 0;
}

static int clocks(void) {
  struct timespec monotonic, boot;
  clock_gettime(CLOCK_MONOTONIC, &monotonic);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  printf("%lld %lld\n", (long long)monotonic.tv_sec, (long long)boot.tv_sec);
  return 0;
}

/* Start a grandchild that has left our session, ignores what it can, and holds every descriptor; then end. */
static int grandchild(void) {
  if (fork() == 0) {
    setsid();
    for (int i = 1; i < 32; i++) signal(i, SIG_IGN);
    for (;;) pause();
  }
  puts("parent ends");
  return 7;
}

/* Write this many bytes of zeros. */
static int zeros(long long bytes) {
  static char block[1 << 16];
  while (bytes > 0) {
    ssize_t done = write(1, block, bytes < (long long)sizeof block ? (size_t)bytes : sizeof block);
    if (done < 0) return errno == EAGAIN ? 11 : 1;
    bytes -= done;
  }
  return 0;
}

/* Run a command with a pipe as stdin, stdout and stderr each, and print whether their flags are the same after it. */
static int flags(char **argv) {
  int pipes[3][2], before[3][2], same = 1;
  for (int i = 0; i < 3; i++) {
    if (pipe(pipes[i]) < 0) return 1;
    for (int j = 0; j < 2; j++) before[i][j] = fcntl(pipes[i][j], F_GETFL);
  }
  pid_t child = fork();
  if (child == 0) {
    dup2(pipes[0][0], 0);
    dup2(pipes[1][1], 1);
    dup2(pipes[2][1], 2);
    for (int i = 0; i < 3; i++) close(pipes[i][0]), close(pipes[i][1]);
    execv(argv[0], argv);
    _exit(99);
  }
  int status;
  waitpid(child, &status, 0);
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 2; j++) same &= before[i][j] == fcntl(pipes[i][j], F_GETFL);
  printf("%s %d\n", same ? "same" : "changed", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  return 0;
}

/* Become a command whose stdout does not block. */
static int nonblock(char **argv) {
  fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_NONBLOCK);
  execv(argv[0], argv);
  return 99;
}

int main(int argc, char **argv, char **envp) {
  const char *what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "strings")) return strings(argc, argv, envp);
  if (!strcmp(what, "argv0")) return printf("%s\n", argv[0]) < 0;
  if (!strcmp(what, "descriptors")) return descriptors();
  if (!strcmp(what, "dispositions")) return dispositions();
  if (!strcmp(what, "signals")) return signals(argc > 2);
  if (!strcmp(what, "queued") && argc > 3) return queued(atoi(argv[2]), atoi(argv[3]));
  if (!strcmp(what, "type")) return type_into_terminal();
  if (!strcmp(what, "clocks")) return clocks();
  if (!strcmp(what, "grandchild")) return grandchild();
  if (!strcmp(what, "zeros") && argc > 2) return zeros(atoll(argv[2]));
  if (!strcmp(what, "flags") && argc > 2) return flags(argv + 2);
  if (!strcmp(what, "nonblock") && argc > 2) return nonblock(argv + 2);
  if (!strcmp(what, "ids")) return printf("%d:%d\n", getuid(), getgid()) < 0;
  if (!strcmp(what, "exit") && argc > 2) return atoi(argv[2]);
  if (!strcmp(what, "raise") && argc > 2) return raise(atoi(argv[2])), 0;
  if (!strcmp(what, "abort")) abort();
  if (!strcmp(what, "alarm")) return alarm(1), pause(), 0;
  fprintf(stderr, "probe: unknown command %s\n", what);
  return 2;
}
