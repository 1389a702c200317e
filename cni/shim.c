/* The executable a runtime starts, compiled: what cni/shim.py does, in a tenth of the time an interpreter needs to start.
 *
 * Forwards CNI_* and stdin over the agent's socket and prints the answer. Without an agent, or when one dies in the
 * middle, it becomes the stand-alone plugin, with the same stdin and the same request name. cni/wire.py describes the
 * protocol. cni/compiling.py writes the installation's values over the texts between @ below.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define RUN_ALONE 255
#define VERSION_MILLISECONDS 500
#define CHUNK 65536

char PYTHON[PYTHON_ROOM] = "@python@";
char SOCKET[SOCKET_ROOM] = "@socket@";
char PLUGIN[PLUGIN_ROOM] = "@plugin@";
char VERSIONS[VERSIONS_ROOM] = "@versions@";
char ABOUT[ABOUT_ROOM] = "@about@";
char PATIENCE[PATIENCE_ROOM] = "@patience@"; /* seconds to wait for the agent */

static const char MAGIC[] = "podwire-cni\0\2"; /* sizeof counts the final NUL */
static const char BUSY[] =
    "{\"cniVersion\": \"1.0.0\", \"code\": 11, \"msg\": \"the node agent has too many calls waiting; try again\"}\n";
static const char LOST[] =
    "{\"cniVersion\": \"1.0.0\", \"code\": 5, \"msg\": \"podwire cannot be started: install the plugin again\"}\n";

extern char **environ;

struct text {
    char *bytes;
    size_t length;
};

static void append(struct text *text, const void *bytes, size_t length)
{
    char *grown = realloc(text->bytes, text->length + length + 1);
    if (!grown)
        _exit(1);
    memcpy(grown + text->length, bytes, length);
    text->bytes = grown;
    text->length += length;
    grown[text->length] = 0;
}

static int write_all(int fd, const char *bytes, size_t length)
{
    while (length) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0)
            return -1;
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

static int show(const char *bytes, size_t length, int code)
{
    write_all(1, bytes, length);
    return code;
}

static int read_all(int fd, struct text *text)
{
    static char part[CHUNK];
    ssize_t count;
    while ((count = read(fd, part, sizeof part)) > 0)
        append(text, part, (size_t)count);
    return count < 0 ? -1 : 0;
}

/* What is written to stdin, without waiting for a writer that never writes or never closes. */
static void read_soon(struct text *text)
{
    static char part[CHUNK];
    struct pollfd reader = {.fd = 0, .events = POLLIN};
    ssize_t count;
    while (poll(&reader, 1, VERSION_MILLISECONDS) > 0 && (count = read(0, part, sizeof part)) > 0)
        append(text, part, (size_t)count);
}

/* The report with the cniVersion of the caller's object, if it is one of the supported (spec §2 VERSION). */
static int show_versions(void)
{
    struct text asked = {0}, report = {0};
    append(&asked, "", 0);
    read_soon(&asked);
    char *value = strstr(asked.bytes, "\"cniVersion\"");
    char *list = strchr(VERSIONS, '[');
    size_t length = strlen(VERSIONS);
    if (!value || !list)
        return show(VERSIONS, length, 0);
    value += strlen("\"cniVersion\"");
    value += strspn(value, " \t\r\n");
    if (*value++ != ':')
        return show(VERSIONS, length, 0);
    value += strspn(value, " \t\r\n");
    char *end = *value == '"' ? strchr(value + 1, '"') : NULL;
    if (!end)
        return show(VERSIONS, length, 0);
    end[1] = 0;
    if (!strstr(list, value))
        return show(VERSIONS, length, 0);
    const char *rest = strchr(VERSIONS, ','); /* the one behind the report's own cniVersion */
    append(&report, "{\"cniVersion\":", strlen("{\"cniVersion\":"));
    append(&report, value, strlen(value));
    append(&report, rest, strlen(rest));
    return show(report.bytes, report.length, 0);
}

static int connect_agent(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = atoi(PATIENCE)};
    int agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (agent < 0 || strlen(SOCKET) >= sizeof address.sun_path)
        return -1;
    strcpy(address.sun_path, SOCKET);
    setsockopt(agent, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(agent, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    /* Waits while the agent's backlog is full, then EAGAIN. */
    if (connect(agent, (struct sockaddr *)&address, sizeof address)) {
        int reason = errno;
        close(agent);
        errno = reason;
        return -1;
    }
    return agent;
}

/* The first bytes, and with them the pod's namespace as an open descriptor, if there is one. */
static int send_header(int agent, const char *header, size_t length)
{
    const char *path = getenv("CNI_NETNS");
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)header, .iov_len = length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int pod = path && *path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (pod >= 0) { /* gone, as it may be for a DEL; an ADD is told so by the plugin */
        control.head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof pod)};
        memcpy(CMSG_DATA(&control.head), &pod, sizeof pod);
        message.msg_control = control.room;
        message.msg_controllen = sizeof control.room;
    }
    return sendmsg(agent, &message, MSG_NOSIGNAL) == (ssize_t)length ? 0 : -1;
}

static void append_length(struct text *text, size_t length)
{
    unsigned char bytes[4] = {length >> 24, length >> 16, length >> 8, length};
    append(text, bytes, sizeof bytes);
}

static void append_own(struct text *block, const char *request)
{
    char line[256];
    struct stat own;
    if (stat("/proc/self/ns/net", &own))
        memset(&own, 0, sizeof own);
    append(block, line, (size_t)snprintf(line, sizeof line, "PODWIRE_PLUGIN=%s", PLUGIN) + 1);
    append(block, request, strlen(request) + 1);
    append(block, line,
           (size_t)snprintf(line, sizeof line, "PODWIRE_CALLER_NETNS=%ju:%ju", (uintmax_t)own.st_dev, (uintmax_t)own.st_ino));
}

/* The agent's answer, whole or not. */
static void ask(int agent, const struct text *stdin_text, const char *request, struct text *answer)
{
    struct text header = {0}, block = {0};
    for (char **entry = environ; *entry; entry++)
        if (!strncmp(*entry, "CNI_", 4))
            append(&block, *entry, strlen(*entry) + 1);
    append_own(&block, request);
    append(&header, MAGIC, sizeof MAGIC - 1);
    append_length(&header, block.length);
    append_length(&header, stdin_text->length);
    append(&block, stdin_text->bytes, stdin_text->length);
    if (!send_header(agent, header.bytes, header.length) && !write_all(agent, block.bytes, block.length))
        if (read_all(agent, answer)) /* connected, but the agent stands still */
            answer->length = 0;
}

static int is_whole(const struct text *answer)
{
    const unsigned char *bytes = (const unsigned char *)answer->bytes;
    if (answer->length < 5 || bytes[0] == RUN_ALONE)
        return 0;
    return answer->length - 5 == ((size_t)bytes[1] << 24 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 8 | bytes[4]);
}

static int become_plugin(const struct text *stdin_text, char *request)
{
    char *arguments[] = {PYTHON, "-I", "-m", "cni", NULL};
    int fd = memfd_create("stdin", 0);
    if (fd >= 0 && !write_all(fd, stdin_text->bytes, stdin_text->length) && !lseek(fd, 0, SEEK_SET) && !dup2(fd, 0)) {
        putenv(request);
        setenv("PODWIRE_PLUGIN", PLUGIN, 1);
        execv(PYTHON, arguments);
    }
    return show(LOST, sizeof LOST - 1, 1);
}

static void name_request(char *request)
{
    unsigned char random[16];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        _exit(1);
    request += sprintf(request, "PODWIRE_REQUEST=");
    for (size_t i = 0; i < sizeof random; i++)
        request += sprintf(request, "%02x", random[i]);
}

int main(void)
{
    static char request[64];
    struct text stdin_text = {0}, answer = {0};
    const char *command = getenv("CNI_COMMAND");
    if (!command || !*command) {
        write_all(2, ABOUT, strlen(ABOUT));
        return 0;
    }
    if (!strcmp(command, "VERSION"))
        return show_versions();
    signal(SIGPIPE, SIG_IGN); /* an agent that hangs up is no reason to die */
    append(&stdin_text, "", 0);
    if (read_all(0, &stdin_text))
        return show(LOST, sizeof LOST - 1, 1);
    name_request(request);
    int agent = connect_agent();
    if (agent < 0 && errno == EAGAIN)
        return show(BUSY, sizeof BUSY - 1, 1);
    if (agent >= 0) {
        ask(agent, &stdin_text, request, &answer);
        close(agent);
    }
    if (is_whole(&answer))
        return show(answer.bytes + 5, answer.length - 5, (unsigned char)answer.bytes[0]);
    return become_plugin(&stdin_text, request);
}
