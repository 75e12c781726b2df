package markers

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sources are packages, each parsed when first needed.
type sources struct {
	dirs   map[string]string
	parsed map[string]*source
}

// source is what is declared in a package.
type source struct {
	all     *sources
	structs map[string]*ast.StructType
	// atomic are the structs that are marked as merged as one value.
	atomic map[string]bool
	// enums are the types that are marked as enumerations.
	enums     map[string]bool
	constants map[string]constant
	// imports are the packages' paths by the names under which any file imports them.
	imports map[string]string
}

type constant struct {
	// typ is the type that the declaration gives, or the value's conversion.
	typ   string
	value ast.Expr
}

func (s *sources) of(path string) (*source, error) {
	if src, ok := s.parsed[path]; ok {
		return src, nil
	}
	dir, ok := s.dirs[path]
	if !ok {
		return nil, fmt.Errorf("markers: no source of %s", path)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	src := &source{all: s, structs: map[string]*ast.StructType{}, atomic: map[string]bool{}, enums: map[string]bool{}, constants: map[string]constant{}, imports: map[string]string{}}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("markers: %w", err)
		}
		src.read(parsed)
	}
	s.parsed[path] = src
	return src, nil
}

func (s *source) read(file *ast.File) {
	for _, i := range file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		name := path[strings.LastIndexByte(path, '/')+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		s.imports[name] = path
	}
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				s.readType(spec, decl.Doc)
			case *ast.ValueSpec:
				if decl.Tok == token.CONST {
					s.readConstants(spec)
				}
			}
		}
	}
}

func (s *source) readType(spec *ast.TypeSpec, doc *ast.CommentGroup) {
	if spec.Doc != nil {
		doc = spec.Doc
	}
	marks := marked(&ast.Field{Doc: doc})
	switch t := spec.Type.(type) {
	case *ast.StructType:
		s.structs[spec.Name.Name] = t
		s.atomic[spec.Name.Name] = slices.Contains(marks["structType"], "atomic")
	case *ast.Ident:
		s.enums[spec.Name.Name] = marks["enum"] != nil && t.Name == "string"
	}
}

func (s *source) readConstants(spec *ast.ValueSpec) {
	for i, name := range spec.Names {
		if i >= len(spec.Values) {
			continue
		}
		c := constant{value: spec.Values[i]}
		if t, ok := spec.Type.(*ast.Ident); ok {
			c.typ = t.Name
		} else if call, ok := c.value.(*ast.CallExpr); ok {
			if t, ok := call.Fun.(*ast.Ident); ok {
				c.typ = t.Name
			}
		}
		s.constants[name.Name] = c
	}
}

// valuesOf are the values of a type's constants, sorted.
func (s *source) valuesOf(name string) ([]string, error) {
	var values []string
	for _, c := range s.constants {
		if c.typ != name {
			continue
		}
		v, err := s.value(c.value)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	slices.Sort(values)
	return slices.Compact(values), nil
}

// value is what an expression says that constants of text are made of: a literal, another constant, or a conversion of one.
func (s *source) value(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.CallExpr:
		if len(e.Args) == 1 {
			return s.value(e.Args[0])
		}
	case *ast.Ident:
		if c, ok := s.constants[e.Name]; ok {
			return s.value(c.value)
		}
	case *ast.SelectorExpr:
		if pkg, ok := e.X.(*ast.Ident); ok {
			other, err := s.all.of(s.imports[pkg.Name])
			if err != nil {
				return "", err
			}
			return other.value(e.Sel)
		}
	}
	return "", fmt.Errorf("unknown form of a constant: %T", e)
}
