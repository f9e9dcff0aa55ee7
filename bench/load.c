/* Closed-loop HTTP load generator for gateway benchmarks. Single thread, epoll.
 *
 *   load -p PORT [-P path] [-c conns] [-d seconds] [-s] [-b prompt_bytes] [-m model] [-H 'Name: v']... [-r ramp_ms] [-n max_requests]
 *
 * Each connection sends a chat completion, reads the whole reply, sends the next one; after -d seconds
 * nothing new starts and what is in flight is awaited. Prints one JSON object: latency, ttft (first byte of the body) and,
 * for streams, token (first piece of content: a gateway may hold the opening role back until there is something to say).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD, BODY_LEN, BODY_EOF, CH_SIZE, CH_DATA, CH_CRLF, CH_TRAIL };
typedef struct {
  int fd, st, status, started, inflight, connclose;
  char hb[16384]; size_t hl;
  long left; char lb[64]; int ll; int lastnl;
  long events;
  size_t woff;
  int64_t t0, tfirst, ttoken, start_at;
  int seen;   /* how much of OPENING has just been read */
} conn;

static int ep, port = 9100, stream, nconn = 1;
static char *req; static size_t reqlen;
static double dur = 3;
static long maxreq = -1;
static int64_t tend;
static const char OPENING[] = "\"content\":\"";   /* and then anything but the closing quote */
static uint32_t *lat, *ttft, *token; static size_t nl, cap;
static long ok, bad, errs, started, evmin = -1, evmax = -1;
static uint64_t rbytes;
static char badhead[400];

static int64_t now_us(void) {
  struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
static int more(void) { return now_us() < tend && (maxreq < 0 || started < maxreq); }

static void open_conn(conn *c) {
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  int one = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  connect(c->fd, (void *)&a, sizeof a);
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
  epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
}
static void wr(conn *c) {
  while (c->inflight && c->woff < reqlen) {
    ssize_t w = write(c->fd, req + c->woff, reqlen - c->woff);
    if (w < 0) return;
    c->woff += w;
  }
}
static void start(conn *c) {
  c->st = HEAD; c->hl = 0; c->events = 0; c->lastnl = 0; c->tfirst = 0; c->ttoken = 0; c->seen = 0; c->woff = 0; c->ll = 0;
  c->inflight = 1; started++;
  c->t0 = now_us();
  wr(c);
}
static void finish(conn *c, int good) {
  int64_t t = now_us();
  c->inflight = 0;
  if (good && c->status == 200) {
    ok++;
    if (nl == cap) {
      cap = cap ? cap * 2 : 65536;
      lat = realloc(lat, cap * 4); ttft = realloc(ttft, cap * 4); token = realloc(token, cap * 4);
    }
    lat[nl] = t - c->t0; ttft[nl] = (c->tfirst ? c->tfirst : t) - c->t0; token[nl] = (c->ttoken ? c->ttoken : t) - c->t0; nl++;
    if (evmin < 0 || c->events < evmin) evmin = c->events;
    if (c->events > evmax) evmax = c->events;
  } else if (good) {
    if (!bad) snprintf(badhead, sizeof badhead, "%.*s", 200, c->hb);
    bad++;
  } else errs++;
  if (!good || c->connclose) { close(c->fd); c->fd = -1; c->connclose = 0; if (more()) { open_conn(c); start(c); } return; }
  if (more()) start(c);
}
static void look(conn *c, const char *p, size_t n) {
  for (const char *e = p + n; p < e; p++) {
    if (c->seen == sizeof OPENING - 1) {
      if (*p != '"') { c->ttoken = now_us(); return; }
      c->seen = 1;
    } else if (*p == OPENING[c->seen]) c->seen++;
    else if (*p != ' ' || c->seen != sizeof OPENING - 2) c->seen = *p == '"';
  }
}
static void count(conn *c, const char *p, size_t n) {
  if (!c->tfirst && n) c->tfirst = now_us();
  if (!stream) return;
  if (!c->ttoken) look(c, p, n);
  for (const char *e = p + n; p < e;) {
    const char *q = memchr(p, '\n', e - p);
    if (!q) { c->lastnl = 0; return; }
    if (q == p && c->lastnl) { c->events++; c->lastnl = 0; }
    else c->lastnl = 1;
    p = q + 1;
  }
}
/* returns 1 when the reply is complete */
static int feed(conn *c, char *p, size_t n) {
  while (n) {
    if (c->st == HEAD) {
      size_t room = sizeof c->hb - 1 - c->hl, k = n < room ? n : room, old = c->hl;
      memcpy(c->hb + c->hl, p, k); c->hl += k; c->hb[c->hl] = 0;
      char *he = memmem(c->hb, c->hl, "\r\n\r\n", 4);
      if (!he) { p += k; n -= k; if (!room) return 1; continue; }
      size_t hlen = he - c->hb + 4, used = hlen - old;
      p += used; n -= used;
      he[2] = 0;
      c->status = atoi(c->hb + 9);
      char *cl = strcasestr(c->hb, "\ncontent-length:"), *te = strcasestr(c->hb, "\ntransfer-encoding:");
      if (strcasestr(c->hb, "\nconnection: close")) c->connclose = 1;
      if (te) { c->st = CH_SIZE; c->ll = 0; }
      else if (cl) { c->left = atol(cl + 16); c->st = BODY_LEN; if (!c->left) return 1; }
      else { c->st = BODY_EOF; c->connclose = 1; }
    } else if (c->st == BODY_LEN) {
      size_t k = n < (size_t)c->left ? n : (size_t)c->left;
      count(c, p, k); p += k; n -= k; c->left -= k;
      if (!c->left) return 1;
    } else if (c->st == BODY_EOF) { count(c, p, n); n = 0; }
    else if (c->st == CH_SIZE) {
      char ch = *p++; n--;
      if (ch == '\n') { c->lb[c->ll] = 0; c->left = strtol(c->lb, NULL, 16); c->ll = 0; c->st = c->left ? CH_DATA : CH_TRAIL; }
      else if (c->ll < 60) c->lb[c->ll++] = ch;
    } else if (c->st == CH_DATA) {
      size_t k = n < (size_t)c->left ? n : (size_t)c->left;
      count(c, p, k); p += k; n -= k; c->left -= k;
      if (!c->left) { c->st = CH_CRLF; c->ll = 0; }
    } else if (c->st == CH_CRLF) {
      if (*p == '\n') { c->st = CH_SIZE; c->ll = 0; }
      p++; n--;
    } else if (c->st == CH_TRAIL) {
      char ch = *p++; n--;
      if (ch == '\n') { if (!c->ll) return 1; c->ll = 0; } else if (ch != '\r') c->ll++;
    }
  }
  return 0;
}
static int cmp(const void *a, const void *b) { uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b; return x < y ? -1 : x > y; }
static double pct(uint32_t *v, double q) { return nl ? v[(size_t)(q * (nl - 1))] / 1000.0 : -1; }

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  const char *path = "/v1/chat/completions", *model = "mock"; long prompt = 1024, ramp = 0; int o;
  char heads[4096] = "";
  while ((o = getopt(argc, argv, "p:P:c:d:sb:m:H:r:n:")) != -1) switch (o) {
    case 'p': port = atoi(optarg); break; case 'P': path = optarg; break;
    case 'c': nconn = atoi(optarg); break; case 'd': dur = atof(optarg); break;
    case 's': stream = 1; break; case 'b': prompt = atol(optarg); break;
    case 'm': model = optarg; break; case 'r': ramp = atol(optarg); break; case 'n': maxreq = atol(optarg); break;
    case 'H': strncat(heads, optarg, sizeof heads - strlen(heads) - 3); strcat(heads, "\r\n"); break;
  }
  char *text = malloc(prompt + 1); const char *w = "Summarise the following document for me, please. \\n";
  size_t wl = strlen(w); long i = 0;
  while (i + (long)wl <= prompt) { memcpy(text + i, w, wl); i += wl; }
  while (i < prompt) text[i++] = '.';
  text[prompt] = 0;
  char *body; int bl = asprintf(&body,
    "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"},"
    "{\"role\":\"user\",\"content\":\"%s\"}],\"temperature\":0.7,\"max_tokens\":512%s}", model, text,
    stream ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" : "");
  reqlen = asprintf(&req, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: bench\r\nAccept: */*\r\n"
    "Content-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", path, port, heads, bl, body);
  ep = epoll_create1(0);
  conn *cs = calloc(nconn, sizeof *cs);
  int64_t t0 = now_us(); tend = t0 + (int64_t)(dur * 1e6);
  for (int k = 0; k < nconn; k++) { cs[k].fd = -1; cs[k].start_at = ramp ? t0 + ramp * 1000 * k / nconn : 0; }
  int pending = nconn;
  struct epoll_event evs[512]; static char buf[262144];
  for (;;) {
    int64_t t = now_us();
    if (pending) for (int k = 0; k < nconn; k++) if (cs[k].fd < 0 && !cs[k].started && cs[k].start_at <= t) {
      cs[k].started = 1; pending--;
      if (more()) { open_conn(&cs[k]); start(&cs[k]); }
    }
    int live = 0;
    if (t >= tend || (maxreq >= 0 && started >= maxreq)) {
      for (int k = 0; k < nconn; k++) live += cs[k].inflight;
      if (!live) break;
      if (t > tend + 30000000) { errs += live; break; }
    }
    int n = epoll_wait(ep, evs, 512, pending ? 1 : 50);
    for (int k = 0; k < n; k++) {
      conn *c = evs[k].data.ptr;
      if (c->fd < 0) continue;
      if (evs[k].events & EPOLLOUT) wr(c);
      while (c->fd >= 0) {
        ssize_t r = read(c->fd, buf, sizeof buf);
        if (r > 0) {
          rbytes += r;
          if (c->inflight && feed(c, buf, r)) { finish(c, 1); break; }
          if ((size_t)r < sizeof buf) break;
        } else if (r < 0 && errno == EAGAIN) break;
        else {
          if (c->inflight) { int eof_ok = r == 0 && c->st == BODY_EOF; finish(c, eof_ok); }
          else { close(c->fd); c->fd = -1; if (more()) { open_conn(c); start(c); } }
          break;
        }
      }
    }
  }
  double el = (now_us() - t0) / 1e6;
  qsort(lat, nl, 4, cmp); qsort(ttft, nl, 4, cmp); qsort(token, nl, 4, cmp);
  struct rusage ru; getrusage(RUSAGE_SELF, &ru);
  double cpu = ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
  for (char *p = badhead; *p; p++) if (*p == '"' || *p == '\\' || *p < 32 || *p > 126) *p = ' ';
  printf("{\"ok\":%ld,\"bad\":%ld,\"errors\":%ld,\"elapsed\":%.4f,\"rps\":%.2f,\"p50\":%.3f,\"p99\":%.3f,\"ttft50\":%.3f,\"ttft99\":%.3f,\"token50\":%.3f,\"token99\":%.3f,"
         "\"ev_min\":%ld,\"ev_max\":%ld,\"bytes\":%lu,\"cpu_ms_per_req\":%.5f,\"bad_sample\":\"%s\"}\n",
         ok, bad, errs, el, ok / el, pct(lat, .5), pct(lat, .99), pct(ttft, .5), pct(ttft, .99), pct(token, .5), pct(token, .99), evmin, evmax, rbytes,
         ok ? cpu * 1000 / ok : 0, badhead);
  return 0;
}
