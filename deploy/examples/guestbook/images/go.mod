module bareboat.dev/examples/guestbook

go 1.26.0
