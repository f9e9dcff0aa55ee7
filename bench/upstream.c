/* Mock upstream for gateway benchmarks: OpenAI, and the dialects a gateway translates. Single thread, epoll, loopback only.
 *
 *   upstream PORT
 *
 * POST <path>/messages       as Anthropic: body with "stream":true -> SSE, else one JSON reply
 * POST <path>/models/<m>:streamGenerateContent, :generateContent   as Gemini: SSE, one JSON reply
 * POST <any other path>      as OpenAI: body with "stream":true -> SSE, else one JSON reply (~1.5 KB, with usage)
 * GET  /ctl?chunks=N&delay_us=D   set the streaming mode (all later streams)
 * GET  /stats                counters as JSON (requests, streams, active, aborted, bytes, cpu_us)
 * GET  /v1/models            one-model list
 *
 * All dialects say the same words (dialects.h) at the same pace.
 * Every SSE event is its own HTTP chunk and (socket permitting) its own write(), as a real
 * provider does it. Back-pressure is honoured: on EAGAIN the stream waits for EPOLLOUT.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
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

#include "dialects.h"

typedef struct conn {
  int fd;
  char *rb;
  size_t rlen, rcap;
  int streaming;      /* an SSE reply is under way */
  int want_out;       /* EPOLLOUT armed */
  int queued;         /* in the timer queue */
  dialect *speaks;
  long ev;            /* index of the event to write next */
  long nev;           /* number of content events of this stream */
  long delay_us;
  size_t off;         /* bytes of the current event already written */
  int64_t due;
  struct conn *next;
} conn;

static int ep;
static long cfg_chunks = 100, cfg_delay_us = 0;
static uint64_t n_req, n_stream, n_abort, n_bytes, n_done;
static long n_active;
static uint64_t last_abort_us;
static conn *qhead, *qtail;

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void arm(conn *c, int out) {
  if (c->want_out == out) return;
  c->want_out = out;
  struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (out ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static void drop(conn *c) {
  if (c->streaming) { n_abort++; n_active--; last_abort_us = now_us(); }
  close(c->fd);
  free(c->rb);
  c->rb = NULL;
  if (c->queued) {
    conn **p = &qhead, *prev = NULL;
    while (*p != c) { prev = *p; p = &(*p)->next; }
    *p = c->next;
    if (qtail == c) qtail = prev;
  }
  free(c);
}

static void enqueue(conn *c) {   /* by due time; almost always at the end */
  c->queued = 1;
  c->next = NULL;
  if (!qhead) { qhead = qtail = c; return; }
  if (qtail->due <= c->due) { qtail->next = c; qtail = c; return; }
  conn **p = &qhead;
  while (*p && (*p)->due <= c->due) p = &(*p)->next;
  c->next = *p;
  *p = c;
}

/* Events of a stream: what opens it, N times content, what ends it. */
static piece *event_at(conn *c) {
  dialect *d = c->speaks;
  long said = c->ev - d->nhead;
  if (said < 0) return &d->head[c->ev];
  return said < c->nev ? &d->say[said & 1] : &d->tail[said - c->nev];
}

static void parse(conn *c);

/* returns 0 when the connection was dropped */
static int pump(conn *c) {
  for (;;) {
    piece *e = event_at(c);
    ssize_t w = write(c->fd, e->p + c->off, e->n - c->off);
    if (w < 0) {
      if (errno == EAGAIN) { arm(c, 1); return 1; }
      drop(c);
      return 0;
    }
    n_bytes += w;
    c->off += w;
    if (c->off < e->n) { arm(c, 1); return 1; }
    c->off = 0;
    long was = c->ev++;
    long opens = c->speaks->nhead - 1, ends = opens + c->nev + c->speaks->ntail;
    if (was == ends) {
      c->streaming = 0; n_active--; n_done++;
      arm(c, 0);
      return 1;
    }
    if (c->delay_us && was >= opens && was < opens + c->nev) {
      arm(c, 0);
      c->due = now_us() + c->delay_us;
      enqueue(c);
      return 1;
    }
  }
}

static char *hdr(char *s, char *end, const char *name) {
  size_t n = strlen(name);
  for (char *p = s; p < end;) {
    char *e = memchr(p, '\n', end - p);
    if (!e) e = end;
    if ((size_t)(e - p) > n && strncasecmp(p, name, n) == 0 && p[n] == ':') return p + n + 1;
    p = e + 1;
  }
  return NULL;
}

static void send_all(conn *c, const char *p, size_t n) {
  while (n) {
    ssize_t w = write(c->fd, p, n);
    if (w < 0) { if (errno == EAGAIN) continue; return; }
    p += w; n -= w; n_bytes += w;
  }
}

static dialect *spoken(const char *line, size_t n) {
  if (memmem(line, n, "/messages ", 10)) return &anthropic;
  return memmem(line, n, "enerateContent", 14) ? &google : &openai;
}

static void parse(conn *c) {
  while (!c->streaming && c->rlen) {
    char *he = memmem(c->rb, c->rlen, "\r\n\r\n", 4);
    if (!he) return;
    size_t hl = he - c->rb + 4;
    char *v = hdr(c->rb, he, "content-length");
    char *te = hdr(c->rb, he, "transfer-encoding");
    size_t total = hl;
    if (te) {                                   /* chunked request body: walk the chunks */
      size_t p = hl;
      for (;;) {
        char *nl = memmem(c->rb + p, c->rlen - p, "\r\n", 2);
        if (!nl) return;
        unsigned long sz = strtoul(c->rb + p, NULL, 16);
        p = (nl - c->rb) + 2 + sz + 2;
        if (p > c->rlen) return;
        if (sz == 0) break;
      }
      total = p;
    } else if (v) {
      total = hl + strtoul(v, NULL, 10);
      if (c->rlen < total) {
        if (c->rcap < total + 1) { c->rb = realloc(c->rb, total + 4096); c->rcap = total + 4096; }
        char *x = hdr(c->rb, c->rb + hl, "expect");
        if (x) send_all(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        return;
      }
    }
    char *body = c->rb + hl;
    size_t bl = total - hl;
    if (c->rb[0] == 'P') {
      n_req++;
      size_t line = (char *)memchr(c->rb, '\n', hl) - c->rb;
      c->speaks = spoken(c->rb, line);
      /* the flag sits near the start or the end of the body; look in both */
      size_t w = bl < 2048 ? bl : 2048;
      int st = memmem(body, w, "\"stream\":true", 13) || memmem(body, w, "\"stream\": true", 14) ||
               memmem(body + bl - w, w, "\"stream\":true", 13) || memmem(body + bl - w, w, "\"stream\": true", 14) ||
               memmem(c->rb, line, ":streamGenerateContent", 22);
      if (st) {
        n_stream++; n_active++;
        c->streaming = 1; c->ev = 0; c->off = 0; c->nev = cfg_chunks; c->delay_us = cfg_delay_us;
      } else {
        send_all(c, c->speaks->reply.p, c->speaks->reply.n);
      }
    } else {
      char out[1024]; int ol;
      char bodybuf[700]; int b2;
      if (memmem(c->rb, hl, "/ctl?", 5)) {
        char *q = memmem(c->rb, hl, "chunks=", 7); if (q) cfg_chunks = atol(q + 7);
        q = memmem(c->rb, hl, "delay_us=", 9); if (q) cfg_delay_us = atol(q + 9);
      }
      if (memmem(c->rb, hl, "/v1/models", 10)) {
        b2 = snprintf(bodybuf, sizeof bodybuf, "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1,\"owned_by\":\"bench\"}]}");
      } else {
        struct rusage ru; getrusage(RUSAGE_SELF, &ru);
        b2 = snprintf(bodybuf, sizeof bodybuf,
          "{\"requests\":%lu,\"streams\":%lu,\"done\":%lu,\"active\":%ld,\"aborted\":%lu,\"bytes\":%lu,\"last_abort_us\":%lu,\"now_us\":%ld,\"cpu_us\":%ld,\"chunks\":%ld,\"delay_us\":%ld}",
          n_req, n_stream, n_done, n_active, n_abort, n_bytes, last_abort_us, (long)now_us(),
          (long)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000 + ru.ru_utime.tv_usec + ru.ru_stime.tv_usec,
          cfg_chunks, cfg_delay_us);
      }
      ol = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", b2, bodybuf);
      send_all(c, out, ol);
    }
    memmove(c->rb, c->rb + total, c->rlen - total);
    c->rlen -= total;
    if (c->streaming) { pump(c); return; }
  }
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  int port = argc > 1 ? atoi(argv[1]) : 9100;
  build_all();
  int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(ls, (void *)&a, sizeof a) || listen(ls, 4096)) { perror("bind"); return 1; }
  ep = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(ep, EPOLL_CTL_ADD, ls, &e);
  struct epoll_event evs[512];
  for (;;) {
    struct timespec ts, *tp = NULL;
    if (qhead) {
      int64_t d = qhead->due - now_us();
      if (d < 0) d = 0;
      ts.tv_sec = d / 1000000; ts.tv_nsec = (d % 1000000) * 1000;
      tp = &ts;
    }
    int n = epoll_pwait2(ep, evs, 512, tp, NULL);
    for (int i = 0; i < n; i++) {
      conn *c = evs[i].data.ptr;
      if (!c) {
        for (;;) {
          int fd = accept4(ls, NULL, NULL, SOCK_NONBLOCK);
          if (fd < 0) break;
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          c = calloc(1, sizeof *c);
          c->fd = fd; c->rcap = 8192; c->rb = malloc(c->rcap);
          struct epoll_event x = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
          epoll_ctl(ep, EPOLL_CTL_ADD, fd, &x);
        }
        continue;
      }
      if (evs[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        int gone = 0;
        for (;;) {
          if (c->rcap - c->rlen < 2048) { c->rcap *= 2; c->rb = realloc(c->rb, c->rcap); }
          ssize_t r = read(c->fd, c->rb + c->rlen, c->rcap - c->rlen);
          if (r > 0) { c->rlen += r; if (c->rlen < c->rcap) break; continue; }
          if (r < 0 && errno == EAGAIN) break;
          gone = 1;
          break;
        }
        if (gone) { drop(c); continue; }
        if (!c->streaming) { parse(c); continue; }
      }
      if ((evs[i].events & EPOLLOUT) && c->streaming) {
        if (pump(c) && !c->streaming) parse(c);
      }
    }
    int64_t t = qhead ? now_us() : 0;
    while (qhead && qhead->due <= t) {
      conn *c = qhead;
      qhead = c->next; if (!qhead) qtail = NULL;
      c->queued = 0;
      if (pump(c) && !c->streaming && c->rlen) parse(c);
    }
  }
}
