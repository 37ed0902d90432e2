// 4 warps, 2 stages
module @window_attention_forward {
  tt.func public @window_attention_forward(%arg0: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg1: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg2: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg3: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg4: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg5: !tt.ptr<f32> {tt.divisibility = 32 : i32}) {
    %cst = arith.constant dense<4096> : tensor<64xi32>
    %cst_0 = arith.constant dense<1024> : tensor<64xi32>
    %cst_1 = arith.constant dense<1.44269502> : tensor<64xf32>
    %cst_2 = arith.constant dense<1.000000e+00> : tensor<64xf32>
    %cst_3 = arith.constant dense<1.000000e+00> : tensor<64x64xf32>
    %cst_4 = arith.constant dense<0.000000e+00> : tensor<64x1xf32>
    %cst_5 = arith.constant dense<-1.000000e+30> : tensor<64x64xf32>
    %cst_6 = arith.constant dense<0.000000e+00> : tensor<64x64xf32>
    %cst_7 = arith.constant dense<200> : tensor<64xi32>
    %cst_8 = arith.constant dense<-536870912> : tensor<64xi32>
    %cst_9 = arith.constant dense<100> : tensor<64xi32>
    %cst_10 = arith.constant dense<0.000000e+00> : tensor<64xf32>
    %cst_11 = arith.constant dense<-5.000000e+29> : tensor<64xf32>
    %cst_12 = arith.constant dense<0.000000e+00> : tensor<64x128xf32>
    %c63_i32 = arith.constant 63 : i32
    %c164_i32 = arith.constant 164 : i32
    %cst_13 = arith.constant dense<0.000000e+00> : tensor<64x128xbf16>
    %cst_14 = arith.constant dense<128> : tensor<64x128xi32>
    %cst_15 = arith.constant dense<512> : tensor<64x128xi32>
    %cst_16 = arith.constant dense<524288> : tensor<64x128xi32>
    %c100_i32 = arith.constant 100 : i32
    %c64_i32 = arith.constant 64 : i32
    %c0_i32 = arith.constant 0 : i32
    %c1_i32 = arith.constant 1 : i32
    %c16_i32 = arith.constant 16 : i32
    %0 = tt.get_program_id x : i32
    %1 = arith.remui %0, %c16_i32 : i32
    %2 = tt.get_program_id y : i32
    %3 = tt.get_program_id z : i32
    %4 = tt.addptr %arg0, %3 : !tt.ptr<i32>, i32
    %5 = tt.load %4 : !tt.ptr<i32>
    %6 = arith.muli %1, %c64_i32 : i32
    %7 = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %8 = tt.splat %6 : i32 -> tensor<64xi32>
    %9 = arith.addi %8, %7 : tensor<64xi32>
    %10 = tt.splat %5 : i32 -> tensor<64xi32>
    %11 = arith.cmpi slt, %9, %10 : tensor<64xi32>
    %12 = tt.expand_dims %11 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
    %13 = tt.broadcast %12 : tensor<64x1xi1> -> tensor<64x128xi1>
    %14 = tt.splat %3 : i32 -> tensor<64x128xi32>
    %15 = arith.muli %14, %cst_16 : tensor<64x128xi32>
    %16 = tt.expand_dims %9 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
    %17 = tt.broadcast %16 : tensor<64x1xi32> -> tensor<64x128xi32>
    %18 = arith.muli %17, %cst_15 : tensor<64x128xi32>
    %19 = arith.addi %15, %18 : tensor<64x128xi32>
    %20 = tt.splat %2 : i32 -> tensor<64x128xi32>
    %21 = arith.muli %20, %cst_14 : tensor<64x128xi32>
    %22 = arith.addi %19, %21 : tensor<64x128xi32>
    %23 = tt.make_range {end = 128 : i32, start = 0 : i32} : tensor<128xi32>
    %24 = tt.expand_dims %23 {axis = 0 : i32} : tensor<128xi32> -> tensor<1x128xi32>
    %25 = tt.broadcast %24 : tensor<1x128xi32> -> tensor<64x128xi32>
    %26 = arith.addi %22, %25 : tensor<64x128xi32>
    %27 = tt.splat %arg1 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
    %28 = tt.addptr %27, %26 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
    %29 = tt.load %28, %13, %cst_13 : tensor<64x128x!tt.ptr<bf16>>
    %30 = arith.subi %6, %c100_i32 : i32
    %31 = arith.maxsi %30, %c0_i32 : i32
    %32 = arith.divsi %31, %c64_i32 : i32
    %33 = arith.cmpi sgt, %31, %c0_i32 : i32
    %34 = arith.extui %33 : i1 to i32
    %35 = arith.cmpi slt, %31, %c0_i32 : i32
    %36 = arith.extui %35 : i1 to i32
    %37 = arith.subi %34, %36 : i32
    %38 = arith.cmpi ne, %37, %c1_i32 : i32
    %39 = arith.remsi %31, %c64_i32 : i32
    %40 = arith.cmpi ne, %39, %c0_i32 : i32
    %41 = arith.andi %38, %40 : i1
    %42 = arith.subi %32, %c1_i32 : i32
    %43 = arith.select %41, %42, %32 : i32
    %44 = arith.addi %6, %c164_i32 : i32
    %45 = arith.minsi %44, %5 : i32
    %46 = arith.addi %45, %c63_i32 : i32
    %47 = arith.divsi %46, %c64_i32 : i32
    %48 = arith.cmpi sgt, %46, %c0_i32 : i32
    %49 = arith.extui %48 : i1 to i32
    %50 = arith.cmpi slt, %46, %c0_i32 : i32
    %51 = arith.extui %50 : i1 to i32
    %52 = arith.subi %49, %51 : i32
    %53 = arith.cmpi ne, %52, %c1_i32 : i32
    %54 = arith.remsi %46, %c64_i32 : i32
    %55 = arith.cmpi ne, %54, %c0_i32 : i32
    %56 = arith.andi %53, %55 : i1
    %57 = arith.subi %47, %c1_i32 : i32
    %58 = arith.select %56, %57, %47 : i32
    %59 = arith.cmpi slt, %6, %5 : i32
    %60 = arith.select %59, %58, %43 : i32
    %61:3 = scf.for %arg6 = %43 to %60 step %c1_i32 iter_args(%arg7 = %cst_12, %arg8 = %cst_11, %arg9 = %cst_10) -> (tensor<64x128xf32>, tensor<64xf32>, tensor<64xf32>)  : i32 {
      %84 = arith.muli %arg6, %c64_i32 : i32
      %85 = tt.splat %84 : i32 -> tensor<64xi32>
      %86 = arith.addi %85, %7 : tensor<64xi32>
      %87 = arith.cmpi slt, %86, %10 : tensor<64xi32>
      %88 = tt.expand_dims %87 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
      %89 = tt.broadcast %88 : tensor<64x1xi1> -> tensor<64x128xi1>
      %90 = tt.expand_dims %86 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
      %91 = tt.broadcast %90 : tensor<64x1xi32> -> tensor<64x128xi32>
      %92 = arith.muli %91, %cst_15 : tensor<64x128xi32>
      %93 = arith.addi %15, %92 : tensor<64x128xi32>
      %94 = arith.addi %93, %21 : tensor<64x128xi32>
      %95 = arith.addi %94, %25 : tensor<64x128xi32>
      %96 = tt.splat %arg2 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
      %97 = tt.addptr %96, %95 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
      %98 = tt.load %97, %89, %cst_13 : tensor<64x128x!tt.ptr<bf16>>
      %99 = tt.splat %arg3 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
      %100 = tt.addptr %99, %95 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
      %101 = tt.load %100, %89, %cst_13 : tensor<64x128x!tt.ptr<bf16>>
      %102 = arith.subi %9, %cst_9 : tensor<64xi32>
      %103 = arith.select %11, %102, %cst_8 : tensor<64xi1>, tensor<64xi32>
      %104 = arith.subi %5, %c1_i32 : i32
      %105 = tt.splat %104 : i32 -> tensor<64xi32>
      %106 = arith.subi %105, %103 : tensor<64xi32>
      %107 = arith.minsi %106, %cst_7 : tensor<64xi32>
      %108 = tt.expand_dims %86 {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
      %109 = tt.expand_dims %103 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
      %110 = tt.broadcast %108 : tensor<1x64xi32> -> tensor<64x64xi32>
      %111 = tt.broadcast %109 : tensor<64x1xi32> -> tensor<64x64xi32>
      %112 = arith.subi %110, %111 : tensor<64x64xi32>
      %113 = tt.expand_dims %107 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
      %114 = tt.broadcast %113 : tensor<64x1xi32> -> tensor<64x64xi32>
      %115 = arith.cmpi ule, %112, %114 : tensor<64x64xi32>
      %116 = tt.trans %98 {order = array<i32: 1, 0>} : tensor<64x128xbf16> -> tensor<128x64xbf16>
      %117 = tt.dot %29, %116, %cst_6, inputPrecision = tf32 : tensor<64x128xbf16> * tensor<128x64xbf16> -> tensor<64x64xf32>
      %118 = arith.select %115, %117, %cst_5 : tensor<64x64xi1>, tensor<64x64xf32>
      %119 = "tt.reduce"(%118) <{axis = 1 : i32}> ({
      ^bb0(%arg10: f32, %arg11: f32):
        %136 = arith.maxnumf %arg10, %arg11 : f32
        tt.reduce.return %136 : f32
      }) : (tensor<64x64xf32>) -> tensor<64xf32>
      %120 = arith.maxnumf %arg8, %119 : tensor<64xf32>
      %121 = arith.subf %arg8, %120 : tensor<64xf32>
      %122 = tt.elementwise_inline_asm "ex2.approx.ftz.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %121 : tensor<64xf32> -> tensor<64xf32>
      %123 = tt.expand_dims %120 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
      %124 = arith.subf %cst_4, %123 : tensor<64x1xf32>
      %125 = tt.broadcast %124 : tensor<64x1xf32> -> tensor<64x64xf32>
      %126 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %118, %cst_3, %125 : tensor<64x64xf32>, tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
      %127 = tt.elementwise_inline_asm "ex2.approx.ftz.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %126 : tensor<64x64xf32> -> tensor<64x64xf32>
      %128 = "tt.reduce"(%127) <{axis = 1 : i32}> ({
      ^bb0(%arg10: f32, %arg11: f32):
        %136 = arith.addf %arg10, %arg11 : f32
        tt.reduce.return %136 : f32
      }) : (tensor<64x64xf32>) -> tensor<64xf32>
      %129 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %arg9, %122, %128 : tensor<64xf32>, tensor<64xf32>, tensor<64xf32> -> tensor<64xf32>
      %130 = tt.expand_dims %122 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
      %131 = tt.broadcast %130 : tensor<64x1xf32> -> tensor<64x128xf32>
      %132 = arith.mulf %arg7, %131 : tensor<64x128xf32>
      %133 = arith.truncf %127 : tensor<64x64xf32> to tensor<64x64xbf16>
      %134 = tt.dot %133, %101, %cst_12, inputPrecision = tf32 : tensor<64x64xbf16> * tensor<64x128xbf16> -> tensor<64x128xf32>
      %135 = arith.addf %132, %134 : tensor<64x128xf32>
      scf.yield %135, %120, %129 : tensor<64x128xf32>, tensor<64xf32>, tensor<64xf32>
    }
    %62 = arith.cmpf ogt, %61#2, %cst_10 : tensor<64xf32>
    %63 = arith.select %62, %61#2, %cst_2 : tensor<64xi1>, tensor<64xf32>
    %64 = tt.expand_dims %63 {axis = 1 : i32} : tensor<64xf32> -> tensor<64x1xf32>
    %65 = tt.broadcast %64 : tensor<64x1xf32> -> tensor<64x128xf32>
    %66 = arith.divf %61#0, %65 : tensor<64x128xf32>
    %67 = tt.extern_elementwise %63 {libname = "", libpath = "", pure = true, symbol = "__nv_logf"} : (tensor<64xf32>) -> tensor<64xf32>
    %68 = arith.mulf %67, %cst_1 : tensor<64xf32>
    %69 = arith.addf %61#1, %68 : tensor<64xf32>
    %70 = arith.cmpi slt, %9, %cst_0 : tensor<64xi32>
    %71 = tt.expand_dims %70 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
    %72 = tt.broadcast %71 : tensor<64x1xi1> -> tensor<64x128xi1>
    %73 = arith.truncf %66 : tensor<64x128xf32> to tensor<64x128xbf16>
    %74 = tt.splat %arg4 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
    %75 = tt.addptr %74, %26 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
    tt.store %75, %73, %72 : tensor<64x128x!tt.ptr<bf16>>
    %76 = tt.splat %3 : i32 -> tensor<64xi32>
    %77 = arith.muli %76, %cst : tensor<64xi32>
    %78 = tt.splat %2 : i32 -> tensor<64xi32>
    %79 = arith.muli %78, %cst_0 : tensor<64xi32>
    %80 = arith.addi %77, %79 : tensor<64xi32>
    %81 = arith.addi %80, %9 : tensor<64xi32>
    %82 = tt.splat %arg5 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %83 = tt.addptr %82, %81 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    tt.store %83, %69, %70 : tensor<64x!tt.ptr<f32>>
    tt.return
  }
}
