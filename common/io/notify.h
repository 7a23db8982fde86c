/* notify: tells a service manager how the service is (sd_notify(3)). Without one these do nothing. */
#ifndef PAIR_IO_NOTIFY_H
#define PAIR_IO_NOTIFY_H

/* "READY=1", "STOPPING=1". Failure is nobody's concern. */
void notify_send(const char *state);

#endif
