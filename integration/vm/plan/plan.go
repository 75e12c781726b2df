// Package plan is what the machine's test and the machine's first process tell each other: the jobs to run in it, as a file on its
// disk, and how each ended, as lines on its second serial port.
package plan

// File is where the disk has the plan, and Modules where the initial RAM disk has the kernel modules, named so that their order is the
// order to load them in.
const (
	File    = "/plan.json"
	Modules = "/modules"
)

// Plan is what the machine does between its start and its end.
type Plan struct {
	// Hostname is the machine's name.
	Hostname string `json:"hostname"`
	Jobs     []Job  `json:"jobs"`
}

// Job is one program, run to its end before the next begins.
type Job struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"`
	// Dir is the working directory; "/" if empty.
	Dir string `json:"dir,omitempty"`
	// Seconds bounds the job; what runs longer is killed, with all that it started.
	Seconds int `json:"seconds"`
}

// Line is one line on the serial port: output of a job or, with Ended, its end.
type Line struct {
	Job    string `json:"job"`
	Output string `json:"output,omitempty"`
	Ended  bool   `json:"ended,omitempty"`
	// Code is the exit code, -1 if the job was killed or could not be started; Error says why.
	Code  int    `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
}
